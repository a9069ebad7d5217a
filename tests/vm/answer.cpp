// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/answer.h"

#include <cstdlib>
#include <ostream>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/vm/introspect_support.h"

namespace vpatch::test {
namespace {

/// The findings of a report; none where the operation did not begin.
boost::json::array findings(const Answer& answer) {
  const auto* list = answer.report.if_contains("findings");
  return list == nullptr ? boost::json::array() : list->as_array();
}

const boost::json::object* finding(const boost::json::array& list, const std::string& id) {
  for (const auto& one : list) {
    if (text_of(one.as_object(), "id") == id) {
      return &one.as_object();
    }
  }
  return nullptr;
}

}  // namespace

int count_from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no threads run
  if (text == nullptr) {
    return otherwise;
  }
  const int count = std::stoi(text);
  if (count < 1) {
    throw std::runtime_error(fmt::format("{}={} is no positive number", name, text));
  }
  return count;
}

std::uint64_t Answer::number(const std::string& of_transition) const {
  return number_of(transition(), of_transition);
}

bool Answer::found(const std::string& id, const std::string& text) const {
  const auto list = findings(*this);
  const auto* one = finding(list, id);
  return one != nullptr && text_of(*one, "text").find(text) != std::string::npos;
}

std::string Answer::hint_of(const std::string& id) const {
  const auto list = findings(*this);
  const auto* one = finding(list, id);
  return one == nullptr ? "" : text_of(*one, "hint");
}

std::string Answer::error_id() const {
  for (const auto& one : findings(*this)) {
    if (text_of(one.as_object(), "severity") == "error") {
      return text_of(one.as_object(), "id");
    }
  }
  return {};
}

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  return out << "exit code " << answer.exit_code << "\n"
             << boost::json::serialize(answer.report) << "\n"
             << answer.progress;
}

Answer ask(const TestVm& vm, const std::string& verb, const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"--json"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const ProcessResult result = vm.vpatch(verb, all);
  boost::system::error_code error;
  const auto report = boost::json::parse(result.out, error);
  return {result.exit_code, error ? boost::json::object() : report.as_object(), result.err};
}

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "tests/vm/test_vm.h"

namespace vpatch::test {

/// A positive number from the environment, or `otherwise`: how long the long tests run.
int count_from_environment(const char* name, int otherwise);

/// What a verb with --json printed, and its exit code.
struct Answer {
  int exit_code = -1;
  boost::json::object report;
  std::string progress;  ///< its error output

  /// The report's "transition"; throws where no transition was seen.
  const boost::json::object& transition() const { return report.at("transition").as_object(); }
  std::uint64_t number(const std::string& of_transition) const;
  /// Whether a finding of this id says something that contains `text`.
  bool found(const std::string& id, const std::string& text = {}) const;
  /// The hint of that finding; empty when there is none.
  std::string hint_of(const std::string& id) const;
  /// The id of the first finding that is an error; empty when there is none.
  std::string error_id() const;
};
std::ostream& operator<<(std::ostream& out, const Answer& answer);

/// vpatch VERB --json ARGUMENTS...
Answer ask(const TestVm& vm, const std::string& verb, const std::vector<std::string>& arguments);

}  // namespace vpatch::test

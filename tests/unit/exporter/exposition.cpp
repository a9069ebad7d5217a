// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/exporter/exposition.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <utility>

#include <gtest/gtest.h>

namespace vpatch::exporter {
namespace {

/// Takes a text apart from its beginning.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }
  bool take(std::string_view word) {
    const bool there = rest_.starts_with(word);
    rest_.remove_prefix(there ? word.size() : 0);
    return there;
  }
  void expect(std::string_view word) {
    if (!take(word)) {
      throw std::runtime_error("expected " + std::string(word) + " before " +
                               std::string(rest_.substr(0, 60)));
    }
  }
  std::string name() {
    const auto end =
        rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (end == 0 || std::string_view("0123456789").contains(rest_.front())) {
      throw std::runtime_error("no name: " + std::string(rest_.substr(0, 60)));
    }
    return take_until(end);
  }
  std::string line() {
    std::string text = take_until(rest_.find('\n'));
    expect("\n");
    return text;
  }
  /// Of a label, quotes and all.
  std::string quoted() {
    expect("\"");
    std::string value;
    while (!take("\"")) {
      if (take("\\n")) {
        value += '\n';
      } else if (take("\\\\")) {
        value += '\\';
      } else if (take("\\\"")) {
        value += '"';
      } else if (rest_.empty() || rest_.front() == '\n' || rest_.front() == '\\') {
        throw std::runtime_error("a label's value is not escaped");
      } else {
        value += take_until(1);
      }
    }
    return value;
  }

 private:
  std::string take_until(std::size_t end) {
    std::string text(rest_.substr(0, end));
    rest_.remove_prefix(text.size());
    return text;
  }

  std::string_view rest_;
};

Sample sample_of(Scanner& scanner) {
  Sample sample{.name = scanner.name(), .labels = {}};
  if (scanner.take("{")) {
    do {
      std::string name = scanner.name();
      scanner.expect("=");
      if (!sample.labels.emplace(std::move(name), scanner.quoted()).second) {
        throw std::runtime_error("a label twice: " + sample.name);
      }
    } while (scanner.take(","));
    scanner.expect("}");
  }
  scanner.expect(" ");
  const std::string number = scanner.line();
  char* end = nullptr;
  sample.value = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0') {
    throw std::runtime_error("no number: " + number);
  }
  return sample;
}

void parse_into(Exposition& page, Scanner scanner) {
  std::set<std::pair<std::string, std::map<std::string, std::string>>> seen;
  while (!scanner.done()) {
    if (scanner.take("# HELP ")) {
      const std::string name = scanner.name();
      scanner.expect(" ");
      page.helps[name] = scanner.line();
    } else if (scanner.take("# TYPE ")) {
      const std::string name = scanner.name();
      scanner.expect(" ");
      EXPECT_TRUE(page.types.emplace(name, scanner.line()).second) << name << " twice";
    } else {
      page.samples.push_back(sample_of(scanner));
      const Sample& last = page.samples.back();
      EXPECT_TRUE(seen.emplace(last.name, last.labels).second) << "twice: " << last.name;
    }
  }
}

}  // namespace

std::vector<Sample> Exposition::of(std::string_view name) const {
  std::vector<Sample> found;
  std::ranges::copy_if(samples, std::back_inserter(found),
                       [name](const Sample& sample) { return sample.name == name; });
  return found;
}

double Exposition::value(std::string_view name,
                         const std::map<std::string, std::string>& labels) const {
  std::vector<double> found;
  for (const Sample& sample : of(name)) {
    if (std::ranges::includes(sample.labels, labels)) {
      found.push_back(sample.value);
    }
  }
  EXPECT_EQ(found.size(), 1U) << name;
  return found.empty() ? -1 : found.front();
}

Exposition parse_exposition(std::string_view text) {
  Exposition page;
  try {
    parse_into(page, Scanner(text));
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what() << " in\n" << text;
  }
  return page;
}

}  // namespace vpatch::exporter

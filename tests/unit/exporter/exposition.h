// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vpatch::exporter {

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

struct Exposition {
  std::map<std::string, std::string> types;  ///< by metric
  std::map<std::string, std::string> helps;
  std::vector<Sample> samples;

  std::vector<Sample> of(std::string_view name) const;
  /// Of the one sample with these labels among others; fails the test when there is not one.
  double value(std::string_view name, const std::map<std::string, std::string>& labels) const;
};

/// Prometheus' text format 0.0.4, each byte of it accounted for; fails the test where it is not
/// that.
Exposition parse_exposition(std::string_view text);

}  // namespace vpatch::exporter

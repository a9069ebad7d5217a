// SPDX-License-Identifier: Apache-2.0
// What contrib/ and the documentation name is what the exporter has.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/exporter/some_page.h"

namespace vpatch::exporter {
namespace {

using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;

std::string read(const std::string& path) {
  std::ifstream file(std::filesystem::path(SOURCE_FOLDER) / path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(text.empty()) << path;
  return text;
}

/// Names of metrics; of a histogram's series the histogram's.
std::set<std::string> names_in(const std::string& text) {
  static const std::regex kName("vpatch_[a-z_]+");
  std::set<std::string> names;
  for (std::sregex_iterator found(text.begin(), text.end(), kName), end; found != end; ++found) {
    names.insert(
        std::regex_replace(found->str(), std::regex("_seconds_(bucket|sum|count)$"), "_seconds"));
  }
  return names;
}

std::set<std::string> exported() {
  std::set<std::string> names;
  for (const auto& [name, type] : SomePage().parse().types) {
    names.insert(name);
  }
  return names;
}

TEST(Contrib, DashboardIsJsonAndAsksForWhatThereIs) {
  const std::string text = read("contrib/grafana/vpatch.json");
  boost::system::error_code ec;
  const auto dashboard = boost::json::parse(text, ec);
  ASSERT_FALSE(ec) << ec.message();
  EXPECT_FALSE(dashboard.at("panels").as_array().empty());
  EXPECT_THAT(names_in(text), Not(IsEmpty()));
  EXPECT_THAT(exported(), IsSupersetOf(names_in(text)));
}

TEST(Contrib, AlertsAskForWhatThereIs) {
  const auto names = names_in(read("contrib/prometheus/vpatch-alerts.yml"));
  EXPECT_THAT(names, Not(IsEmpty()));
  EXPECT_THAT(exported(), IsSupersetOf(names));
}

TEST(Documentation, HasEachMetricAndNoOther) {
  EXPECT_EQ(names_in(read("docs/exporter.md")), exported());
}

}  // namespace
}  // namespace vpatch::exporter

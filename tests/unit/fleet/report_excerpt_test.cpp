// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/store_support.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;

json::array numbers(std::size_t count) {
  json::array list;
  for (std::size_t number = 0; number < count; ++number) {
    list.emplace_back(number);
  }
  return list;
}

std::size_t size_of(const json::object& report) {
  return json::serialize(report).size();
}

TEST(Brief, ASmallReportIsKeptButForWhatNobodyNeeds) {
  json::object report = some_report();
  report["domain"] = "web01";
  EXPECT_EQ(brief(report), some_report());
}

TEST(Brief, ListsAreCutToTheirFirstEntries) {
  json::object report = some_report();
  report["findings"] = numbers(100);
  report["kernel_log"] = numbers(100);
  report["blockers"] = json::object{{"count", 100}, {"tasks", numbers(100)}};
  report["transition"] =
      json::object{{"switches", 100},
                   {"switched", numbers(100)},
                   {"pending", json::object{{"count", 100}, {"tasks", numbers(100)}}}};
  json::object expected = some_report();
  expected["findings"] = numbers(16);
  expected["kernel_log"] = numbers(20);
  expected["blockers"] = json::object{{"count", 100}, {"tasks", numbers(16)}};
  expected["transition"] =
      json::object{{"switches", 100},
                   {"switched", numbers(8)},
                   {"pending", json::object{{"count", 100}, {"tasks", numbers(8)}}}};
  EXPECT_EQ(brief(report), expected);
}

TEST(Brief, OfAHealthReportAllIsKept) {
  const json::object report{{"verdict", "pass"}, {"checks", numbers(100)}, {"more", {{"x", 1}}}};
  EXPECT_EQ(brief(report), report);
}

TEST(Brief, TooLongAReportLosesItsLargestListFirst) {
  json::object report = some_report();
  report["findings"] = json::array{std::string(kLongestReport, 'x')};
  report["replaced"] = numbers(10);
  report["summary"] = std::string(kLongestReport / 2, 'y');
  json::object expected = report;
  expected.erase("findings");
  EXPECT_EQ(brief(report), expected);
}

TEST(Brief, AMemberOfAnotherTypeDoesNoHarm) {
  json::object report{{"verb", "revert"},
                      {"findings", "none"},
                      {"blockers", numbers(3)},
                      {"transition", json::object{{"switched", 7}, {"pending", nullptr}}}};
  EXPECT_EQ(brief(report), report);
}

TEST(Brief, NothingIsLongerThanTheLimit) {
  json::object texts = some_report();
  texts["summary"] = std::string(kLongestReport, '\x01');
  EXPECT_LE(size_of(brief(texts)), kLongestReport);
  EXPECT_EQ(brief(texts).at("outcome"), "done");
  json::object many;
  for (int number = 0; number < 20'000; ++number) {
    many[std::to_string(number) + "\"\""] = number;
  }
  EXPECT_LE(size_of(brief(many)), kLongestReport);
  EXPECT_GT(size_of(brief(many)), kLongestReport / 2);
  EXPECT_EQ(brief({}), json::object());
}

}  // namespace
}  // namespace vpatch::fleet

// SPDX-License-Identifier: Apache-2.0
// What could not be read again from the record of a rollout is refused before it begins.
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm-agent/rollout/plan.h"

namespace vpatch::rollout {
namespace {

using testing::HasSubstr;

Result<Plan> parse(const std::string& file, const std::string& lines,
                   const std::filesystem::path& folder = "/plans") {
  return parse_plan(
      fmt::format("name: a\nconnections: [c]\nfiles: [{{kernel: k, file: {}}}]\n{}", file, lines),
      folder);
}

std::string error_of(const Result<Plan>& plan) {
  return plan ? "no error" : plan.error().what;
}

bool can_be_read_again(const Result<Plan>& plan) {
  if (!plan) {
    return false;
  }
  const auto again = parse_plan(to_yaml(*plan), "/");
  return again && *again == *plan;
}

TEST(PlanRecord, HasNoCharactersThatYamlCannotWrite) {
  for (const char* text : {"\\uFFFE", "\\uFFFF", "\\uFDD0", "\\uFDEF", "\\U0001FFFE", "\\U0010FFFF",
                           "\xef\xbf\xbe", "\xf0\x9f\xbf\xbf"}) {
    EXPECT_THAT(error_of(parse("f", fmt::format("domains: {{names: [\"a{}\"]}}", text))),
                HasSubstr("line 4, column 19: it must be UTF-8 without control characters"))
        << text;
  }
  for (const char* text : {"\\uFFFD", "\\uFDCF", "\\uFDF0", "\\U0001FFFD", "\\U0001F7FE"}) {
    EXPECT_TRUE(can_be_read_again(parse("f", fmt::format("domains: {{names: [\"a{}\"]}}", text))))
        << text;
  }
}

TEST(PlanRecord, IsNoLongerThanAPlan) {
  std::string texts = "*t";
  for (int i = 1; i < 255; ++i) {
    texts += ", *t";
  }
  const auto plan = [&](std::size_t length) {
    return parse("f", fmt::format("checks: [{{name: a, command: [&t \"{}\", {}]}}]",
                                  std::string(length, 'x'), texts));
  };
  EXPECT_TRUE(can_be_read_again(plan(4000)));
  EXPECT_EQ(error_of(plan(4096)),
            "the plan is longer than 1048576 bytes as it is recorded, without aliases");
}

TEST(PlanRecord, HasPathsThatAPlanMayHave) {
  const std::string longest(4096 - 7, 'x');
  EXPECT_TRUE(can_be_read_again(parse(longest, "")));
  EXPECT_THAT(
      error_of(parse(longest + "x", "")),
      HasSubstr("line 3, column 27: with the plan's folder the path must be UTF-8 of up to 4096"));
  for (const char* folder : {"/pl\xffns", "/pl\nns"}) {
    EXPECT_THAT(error_of(parse("f", "", folder)),
                HasSubstr("with the plan's folder the path must be UTF-8"));
    EXPECT_TRUE(can_be_read_again(parse("/f", "", folder)));
  }
}

}  // namespace
}  // namespace vpatch::rollout

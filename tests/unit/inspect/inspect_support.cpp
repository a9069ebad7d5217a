// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/inspect/inspect_support.h"

#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::test {

LivepatchFile accept(Bytes file) {
  auto parsed = parse_livepatch(std::move(file), "demo.ko");
  if (!parsed) {
    ADD_FAILURE() << parsed.error().what;
    return {};
  }
  return std::move(*parsed);
}

std::string refusal(Bytes file) {
  const auto parsed = parse_livepatch(std::move(file), "demo.ko");
  if (parsed) {
    ADD_FAILURE() << "not refused";
    return "";
  }
  EXPECT_EQ(parsed.error().outcome, Outcome::refused);
  EXPECT_THAT(parsed.error().what, testing::StartsWith("demo.ko: "));
  EXPECT_THAT(parsed.error().what, testing::Not(testing::HasSubstr("\n")));
  EXPECT_FALSE(parsed.error().hint.empty());
  return parsed.error().what;
}

std::string unknown_reason(Bytes file) {
  const auto parsed = accept(std::move(file));
  EXPECT_FALSE(parsed.contents.has_value());
  EXPECT_FALSE(parsed.contents_unknown.empty());
  return parsed.contents_unknown;
}

PatchContents read_back(const LivepatchSpec& spec) {
  const auto parsed = accept(make_livepatch(spec).build());
  EXPECT_EQ(parsed.contents_unknown, "");
  return parsed.contents.value_or(PatchContents{});
}

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
// Damage done mechanically: whatever the bytes, the answer is a result or a refusal.
#include <cstdint>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

/// A module that has one of everything.
LivepatchSpec rich_spec() {
  LivepatchSpec spec;
  spec.contents = {
      .replace = true,
      .objects = {{.name = "vmlinux",
                   .functions = {{"first", 0, "new_first"}, {"second", 2, "new_second"}},
                   .callbacks = {.pre_patch = true}},
                  {.name = "ext4", .functions = {{"third", 1, ""}}, .callbacks = {}}},
      .states = {{7, 1}}};
  return spec;
}

void expect_result_or_refusal(const Bytes& file, std::size_t at) {
  const auto parsed = parse_livepatch(file, "demo.ko");
  if (!parsed) {
    EXPECT_EQ(parsed.error().outcome, Outcome::refused) << at << ": " << parsed.error().what;
  } else {
    EXPECT_NE(parsed->contents.has_value(), !parsed->contents_unknown.empty()) << at;
  }
}

TEST(Mutation, RefusesFileTruncatedAtAnyByte) {
  const auto whole = make_livepatch(rich_spec()).build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto parsed = parse_livepatch(
        Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)), "demo.ko");
    ASSERT_FALSE(parsed) << size;
    EXPECT_EQ(parsed.error().outcome, Outcome::refused) << size;
    EXPECT_FALSE(parsed.error().hint.empty()) << size;
  }
}

class FlippedByte : public testing::TestWithParam<std::uint8_t> {};

TEST_P(FlippedByte, NeverDoesMoreThanRefuse) {
  const auto whole = append_signature(make_livepatch(rich_spec()).build(), 16);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    auto file = whole;
    file[at] ^= std::byte{GetParam()};
    expect_result_or_refusal(file, at);
  }
}

INSTANTIATE_TEST_SUITE_P(Mutation, FlippedByte, testing::Values(0xFF, 0x01, 0x80));

TEST(Mutation, SurvivesHugeNumbersInEveryWord) {
  const auto whole = make_livepatch(rich_spec()).build();
  for (const std::uint64_t value : {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{0}}) {
    for (std::size_t at = 0; at + 8 <= whole.size(); at += 8) {
      auto file = whole;
      put(file, at, value);
      expect_result_or_refusal(file, at);
    }
  }
}

TEST(Mutation, SurvivesStrippedModuleWithFlippedBytes) {
  auto spec = rich_spec();
  spec.data_symbols = false;
  spec.text_symbols = false;
  const auto whole = make_livepatch(spec).build();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    auto file = whole;
    file[at] ^= std::byte{0x10};
    expect_result_or_refusal(file, at);
  }
}

}  // namespace
}  // namespace vpatch::test

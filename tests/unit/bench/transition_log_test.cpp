// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::bench {
namespace {

using testing::Optional;

introspect::LogRecord record(std::uint64_t time_ns, std::string text) {
  introspect::LogRecord record;
  record.time_ns = time_ns;
  record.text = std::move(text);
  return record;
}

TEST(TransitionLog, TimesFromTheStartToTheEndOfTheTransition) {
  const std::vector<introspect::LogRecord> log = {
      record(1'000'000, "livepatch: enabling patch 'fix'"),
      record(2'000'000, "livepatch: 'fix': starting patching transition"),
      record(5'500'000, "livepatch: 'fix': patching complete"),
      record(7'000'000, "livepatch: 'fix': starting unpatching transition"),
      record(7'250'000, "livepatch: 'fix': unpatching complete"),
  };
  EXPECT_THAT(transition_ms(log, "fix", Direction::patching), Optional(3.5));
  EXPECT_THAT(transition_ms(log, "fix", Direction::unpatching), Optional(0.25));
}

TEST(TransitionLog, TakesTheLastOfSeveral) {
  const std::vector<introspect::LogRecord> log = {
      record(1'000'000, "livepatch: 'fix': starting patching transition"),
      record(2'000'000, "livepatch: 'fix': patching complete"),
      record(3'000'000, "livepatch: 'fix': starting patching transition"),
      record(9'000'000, "livepatch: 'fix': patching complete"),
  };
  EXPECT_THAT(transition_ms(log, "fix", Direction::patching), Optional(6.0));
}

TEST(TransitionLog, HasNoTimeForOneThatHasNotEnded) {
  const std::vector<introspect::LogRecord> log = {
      record(1'000'000, "livepatch: 'fix': starting patching transition"),
      record(2'000'000, "livepatch: 'fix': patching complete"),
      record(3'000'000, "livepatch: 'fix': starting patching transition"),
      record(4'000'000, "livepatch: 'other': patching complete"),
  };
  EXPECT_EQ(transition_ms(log, "fix", Direction::patching), std::nullopt);
  EXPECT_EQ(transition_ms(log, "other", Direction::patching), std::nullopt);
}

}  // namespace
}  // namespace vpatch::bench

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/kernel_log.h"

#include <gtest/gtest.h>

namespace vpatch {
namespace {

std::string lines(std::uint64_t time_ns, std::string text) {
  introspect::LogRecord record;
  record.time_ns = time_ns;
  record.text = std::move(text);
  return log_lines(record);
}

TEST(LogLines, HaveTheTimeAsDmesgPrintsIt) {
  EXPECT_EQ(lines(1'234'567'891, "hello"), "[    1.234567] hello\n");
}

TEST(LogLines, RepeatTheTimeForEachLineOfARecord) {
  EXPECT_EQ(lines(0, "a\nb"), "[    0.000000] a\n[    0.000000] b\n");
}

TEST(LogLines, KeepAnEmptyRecord) {
  EXPECT_EQ(lines(0, ""), "[    0.000000] \n");
}

TEST(LogLines, GrowWithALongUptime) {
  EXPECT_EQ(lines(123'456'789'000'000'000U, "x"), "[123456789.000000] x\n");
}

}  // namespace
}  // namespace vpatch

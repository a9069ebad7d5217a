// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/module_version.h"

#include <gtest/gtest.h>

namespace vpatch {
namespace {

TEST(CompareVersions, TakesDigitsForNumbers) {
  EXPECT_TRUE(compare_versions("1.9", "1.10") < 0);
  EXPECT_TRUE(compare_versions("10", "9") > 0);
  EXPECT_TRUE(compare_versions("18446744073709551616", "18446744073709551615") > 0);
  EXPECT_TRUE(compare_versions("1.007", "1.7") == 0);
}

TEST(CompareVersions, TakesLettersByTheAlphabet) {
  EXPECT_TRUE(compare_versions("1a", "1b") < 0);
  EXPECT_TRUE(compare_versions("v2", "v1") > 0);
}

TEST(CompareVersions, TakesOtherCharactersForSeparators) {
  EXPECT_TRUE(compare_versions("1.2-3", "1_2.3") == 0);
}

TEST(CompareVersions, TakesTheOneThatGoesOnForNewer) {
  EXPECT_TRUE(compare_versions("2", "2.1") < 0);
  EXPECT_TRUE(compare_versions("2.1", "2") > 0);
}

}  // namespace
}  // namespace vpatch

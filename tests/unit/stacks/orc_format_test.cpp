// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "fake_orc.h"

namespace vpatch::introspect {
namespace {

using namespace testing;

OrcEntry old_entry(const RawOrc& raw) {
  return OrcFormat::probe(types_of_6_1()).value().decode(raw.packed_as_6_1());
}

OrcEntry new_entry(const RawOrc& raw) {
  return new_format().decode(raw.packed_as_6_12());
}

Errc why_refused(const FakeTypes& types) {
  const auto format = OrcFormat::probe(types);
  EXPECT_FALSE(format);
  return format ? Errc{} : format.error().code;
}

TEST(OrcFormat, FindsNoneInAKernelWithoutOrc) {
  auto types = types_of_6_12();
  types.sizes.erase("orc_entry");
  EXPECT_EQ(why_refused(types), Errc::not_found);
}

TEST(OrcFormat, RefusesEveryLayoutNotKnownHere) {
  const auto changed = [](FakeTypes types, auto change) {
    change(types);
    return why_refused(types);
  };
  EXPECT_EQ(changed(types_of_6_12(), [](auto& types) { types.sizes["orc_entry"] = 8; }),
            Errc::corrupt);
  EXPECT_EQ(changed(types_of_6_12(), [](auto& types) { types.members.erase("orc_entry.bp_reg"); }),
            Errc::corrupt);
  EXPECT_EQ(
      changed(types_of_6_12(), [](auto& types) { types.members["orc_entry.sp_reg"].bit_size = 5; }),
      Errc::corrupt);
  EXPECT_EQ(changed(types_of_6_12(),
                    [](auto& types) { types.members["orc_entry.type"].bit_offset = ~0UL; }),
            Errc::corrupt);
  EXPECT_EQ(changed(types_of_6_12(), [](auto& types) { types.members["orc_entry.end"] = {44, 1}; }),
            Errc::corrupt);
  EXPECT_EQ(changed(types_of_6_1(), [](auto& types) { types.members.erase("orc_entry.end"); }),
            Errc::corrupt);
}

TEST(OrcFormat, DecodesAnOldCall) {
  EXPECT_EQ(old_entry({.sp_offset = 24, .bp_offset = -16, .sp_reg = kSp, .bp_reg = kPrevSp}),
            (OrcEntry{.type = OrcType::call,
                      .sp_register = OrcRegister::sp,
                      .bp_register = OrcRegister::prev_sp,
                      .sp_offset = 24,
                      .bp_offset = -16}));
}

TEST(OrcFormat, TakesOldSavedRegistersForExact) {
  const auto full = old_entry({.sp_reg = kSp, .type = kOldRegs});
  const auto partial = old_entry({.sp_reg = kSp, .type = kOldRegsPartial});
  EXPECT_EQ(full.type, OrcType::regs);
  EXPECT_EQ(partial.type, OrcType::regs_partial);
  EXPECT_TRUE(full.signal && partial.signal);
}

TEST(OrcFormat, TellsTheOldEmptyFrameFromABrokenEntry) {
  EXPECT_EQ(old_entry({.end = true}).type, OrcType::empty);
  EXPECT_EQ(old_entry({}).type, OrcType::undefined);
}

TEST(OrcFormat, DecodesTheNewTypes) {
  EXPECT_EQ(new_entry({.type = kNone}).type, OrcType::undefined);
  EXPECT_EQ(new_entry({.type = kEnd}).type, OrcType::end_of_stack);
  EXPECT_EQ(new_entry({.sp_reg = kSp, .type = kCall}).type, OrcType::call);
  EXPECT_EQ(new_entry({.sp_reg = kSp, .type = kRegs}).type, OrcType::regs);
  EXPECT_EQ(new_entry({.sp_reg = kSp, .type = kRegsPartial}).type, OrcType::regs_partial);
}

TEST(OrcFormat, DoesNotBelieveTypesWithoutMeaning) {
  EXPECT_EQ(old_entry({.sp_reg = kSp, .type = 3}).type, OrcType::undefined);
  for (const unsigned type : {5U, 6U, 7U}) {
    EXPECT_EQ(new_entry({.sp_reg = kSp, .type = type}).type, OrcType::undefined) << type;
  }
}

TEST(OrcFormat, TakesTheSignalBitWhereThereIsOne) {
  EXPECT_TRUE(new_entry({.sp_reg = kSp, .type = kRegs, .signal = true}).signal);
  EXPECT_FALSE(new_entry({.sp_reg = kSp, .type = kRegs, .signal = false}).signal);
}

TEST(OrcFormat, DoesNotBelieveRegistersWithoutMeaning) {
  for (unsigned number = 10; number < 16; ++number) {
    EXPECT_EQ(new_entry({.sp_reg = number, .type = kCall}), OrcEntry{}) << number;
    EXPECT_EQ(new_entry({.sp_reg = kSp, .bp_reg = number, .type = kCall}), OrcEntry{}) << number;
  }
}

}  // namespace
}  // namespace vpatch::introspect

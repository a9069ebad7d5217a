// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/livepatch_code.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/symbols/kallsyms_builder.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::KallsymsBuilder;

constexpr std::uint64_t kBase = KallsymsBuilder::kBase;

VirtRange code(std::uint64_t start, std::uint64_t end) {
  return VirtRange::between(GuestVirtAddr(kBase + start), GuestVirtAddr(kBase + end));
}

class LivepatchCode : public ::testing::Test {
 protected:
  LivepatchCode() { add("_stext", 0); }

  /// In rising order.
  void add(std::string_view name, std::uint64_t offset, char type = 't') {
    symbols.add(name, kBase + offset, type);
  }
  Result<std::vector<VirtRange>> find() {
    add("init_uts_ns", 0x10000, 'D');
    testing::SparseVirtualMemory memory;
    symbols.put(memory);
    const auto loaded = Kallsyms::load(memory, symbols.text());
    EXPECT_TRUE(loaded.has_value()) << loaded.error().what;
    return loaded ? livepatch_code(*loaded) : std::unexpected(loaded.error());
  }

  KallsymsBuilder symbols;
};

TEST_F(LivepatchCode, IsTheLivepatchCoreAndTheEntryOfFtrace) {
  add("__fentry__", 0x100, 'T');
  add("ftrace_caller", 0x200, 'T');
  add("ftrace_call", 0x220, 'T');
  add("ftrace_caller_end", 0x240, 'T');
  add("other", 0x250);
  add("klp_ftrace_handler", 0x300);
  add("schedule", 0x400, 'T');
  add("__klp_sched_try_switch", 0x500, 'T');
  add("ftrace_make_nop", 0x600, 'T');
  add("klp_patches", 0x700, 'd');
  const auto found = find();
  ASSERT_TRUE(found.has_value()) << found.error().what;
  EXPECT_THAT(*found, ElementsAre(code(0x100, 0x250), code(0x300, 0x400), code(0x500, 0x600)));
}

TEST_F(LivepatchCode, HasPartsThatTheCompilerHasSplitOff) {
  add("ftrace_caller", 0x200, 'T');
  add("x", 0x240);
  add("klp_ftrace_handler", 0x300);
  add("y", 0x340);
  add("klp_init_object_loaded.cold", 0x400);
  add("z", 0x440);
  EXPECT_THAT(*find(), ElementsAre(code(0x200, 0x240), code(0x300, 0x340), code(0x400, 0x440)));
}

TEST_F(LivepatchCode, JoinsSeveralNamesOfOnePlace) {
  add("arch_ftrace_ops_list_func", 0x100, 'T');
  add("ftrace_ops_list_func", 0x100, 'T');
  add("x", 0x180);
  add("ftrace_caller", 0x200, 'T');
  add("klp_ftrace_handler", 0x240);
  add("y", 0x280);
  EXPECT_THAT(*find(), ElementsAre(code(0x100, 0x180), code(0x200, 0x280)));
}

TEST_F(LivepatchCode, IsNotKnownWithoutWhatEveryLivepatchKernelHas) {
  add("ftrace_caller", 0x200, 'T');
  add("klp_shadow_get", 0x300, 'T');
  const auto found = find();
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Errc::not_found);
  EXPECT_THAT(found.error().what, HasSubstr("klp_ftrace_handler"));
}

TEST(HoldsAny, KnowsTheFirstAndLastByteOfEachRange) {
  const std::vector<VirtRange> sorted = {code(0x100, 0x200), code(0x300, 0x400)};
  const auto holds = [&](std::uint64_t offset) {
    return holds_any(sorted, GuestVirtAddr(kBase + offset));
  };
  EXPECT_FALSE(holds(0xff));
  EXPECT_TRUE(holds(0x100));
  EXPECT_TRUE(holds(0x1ff));
  EXPECT_FALSE(holds(0x200));
  EXPECT_FALSE(holds(0x2ff));
  EXPECT_TRUE(holds(0x300));
  EXPECT_TRUE(holds(0x3ff));
  EXPECT_FALSE(holds(0x400));
  EXPECT_FALSE(holds_any({}, GuestVirtAddr(kBase)));
}

}  // namespace
}  // namespace vpatch::introspect

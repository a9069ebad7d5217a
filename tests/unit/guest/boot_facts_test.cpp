// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/boot_facts.h"

#include <gtest/gtest.h>

#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect {
namespace {

/// Memory in which nothing is mapped: whatever is answered came from the facts.
class KernelNamesTest : public ::testing::Test {
 protected:
  testing::SparseVirtualMemory memory;
  BootFacts facts;
};

TEST_F(KernelNamesTest, AnswersAKnownMemberWithoutReading) {
  facts.members["task_struct pid"] = Member{64, 32, 1};
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.member("task_struct", "pid"), (Member{64, 32, 1}));
  EXPECT_EQ(memory.reads, 0U);
}

TEST_F(KernelNamesTest, AnswersAKnownAbsenceWithoutReading) {
  facts.sizes["pcpu_hot"] = std::nullopt;
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.size_of("pcpu_hot").error().code, Errc::not_found);
  EXPECT_EQ(memory.reads, 0U);
}

TEST_F(KernelNamesTest, AnswersAKnownSymbol) {
  facts.symbols["init_task"] = 0xffffffff82000000;
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.address_of("init_task"), GuestVirtAddr(0xffffffff82000000));
}

TEST_F(KernelNamesTest, AnswersAKnownEnumerator) {
  facts.enumerators["MOD_TEXT"] = -1;
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.enumerator("MOD_TEXT"), -1);
}

/// The tables are named by VMCOREINFO, but their memory cannot be read now: that may pass.
TEST_F(KernelNamesTest, DoesNotRememberAFailureThatMayPass) {
  for (const char* const name :
       {"kallsyms_names", "kallsyms_num_syms", "kallsyms_token_table", "kallsyms_token_index",
        "kallsyms_offsets", "kallsyms_relative_base", "_stext", "init_uts_ns"}) {
    facts.text.symbols[name] = GuestVirtAddr(0xffffffff82000000);
  }
  const KernelNames names(memory, facts);
  EXPECT_FALSE(names.address_of("init_task").has_value());
  EXPECT_FALSE(facts.symbols.contains("init_task"));
}

TEST_F(KernelNamesTest, FailsWithAReasonWhenTheBtfWouldBeHuge) {
  facts.symbols["__start_BTF"] = 0x1000;
  facts.symbols["__stop_BTF"] = 0x1000 + kMaxBtfSize + 1;
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.btf().error().code, Errc::corrupt);
}

TEST_F(KernelNamesTest, FailsWithAReasonWhenTheBtfEndsBeforeItStarts) {
  facts.symbols["__start_BTF"] = 0x2000;
  facts.symbols["__stop_BTF"] = 0x1000;
  const KernelNames names(memory, facts);
  EXPECT_EQ(names.btf().error().code, Errc::not_found);
}

}  // namespace
}  // namespace vpatch::introspect

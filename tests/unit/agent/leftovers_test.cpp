// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/leftovers.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch {
namespace {

using introspect::GuestVirtAddr;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr GuestVirtAddr kFunction(0xffffffff81000100);
constexpr std::array<std::uint8_t, 5> kNop = {0x0f, 0x1f, 0x44, 0x00, 0x00};
constexpr std::array<std::uint8_t, 5> kCall = {0xe8, 0x12, 0x34, 0x56, 0x78};

class LeftoversTest : public testing::Test {
 protected:
  LeftoversTest() { memory.put(kFunction, kNop); }

  Leftovers find(const std::vector<std::string>& unloaded = {"old"}) const {
    return find_leftovers(memory, state, before, std::vector<std::string>{"old"}, unloaded);
  }
  /// A livepatch of that function.
  void list(const std::string& name) {
    introspect::PatchedFunction function;
    function.name = "f";
    function.old_func = kFunction;
    introspect::LivePatch patch;
    patch.name = name;
    patch.objects.push_back(
        {.name = "vmlinux", .patched = true, .callbacks = {}, .functions = {function}});
    state.livepatch.patches.push_back(patch);
  }

  introspect::testing::SparseVirtualMemory memory;
  MemoryState state;
  std::vector<ChangedFunction> before = {{"vmlinux", "f", kFunction}};
};

TEST_F(LeftoversTest, AreNoneWhenTheCodeIsOriginalAgain) {
  const Leftovers left = find();
  EXPECT_THAT(left.wrong, IsEmpty());
  EXPECT_THAT(left.hooked, IsEmpty());
  EXPECT_EQ(left.restored, 1U);
}

TEST_F(LeftoversTest, AreAHookThatNoLivepatchOwns) {
  memory.put(kFunction, kCall);
  const Leftovers left = find();
  EXPECT_THAT(left.hooked, ElementsAre("vmlinux:f"));
  EXPECT_EQ(left.restored, 0U);
}

TEST_F(LeftoversTest, AreAHookAfterEndbr) {
  memory.put(kFunction, std::array<std::uint8_t, 5>{0xf3, 0x0f, 0x1e, 0xfa, 0xe8});
  EXPECT_THAT(find().hooked, ElementsAre("vmlinux:f"));
}

TEST_F(LeftoversTest, AreNotLookedForInWhatTheNewPatchChanges) {
  memory.put(kFunction, kCall);
  list("new");
  const Leftovers left = find();
  EXPECT_THAT(left.wrong, IsEmpty());
  EXPECT_THAT(left.hooked, IsEmpty());
}

TEST_F(LeftoversTest, AreAPatchStillListed) {
  list("old");
  EXPECT_THAT(find().wrong, ElementsAre(HasSubstr("old is still on the kernel's list")));
}

TEST_F(LeftoversTest, AreAModuleStillInMemory) {
  introspect::Module module;
  module.name = "old";
  state.modules.push_back(module);
  EXPECT_THAT(find().wrong, ElementsAre(HasSubstr("module old is still in memory")));
  EXPECT_THAT(find({}).wrong, IsEmpty());
}

TEST_F(LeftoversTest, AreAReplacementThatNobodyLists) {
  state.livepatch.func_stacks.push_back({kFunction, {GuestVirtAddr(1)}});
  EXPECT_THAT(find().wrong, ElementsAre(HasSubstr("vmlinux:f still has a replacement")));
}

TEST_F(LeftoversTest, AreNotLookedForInAModuleThatHasGone) {
  before = {{"ext4", "f", GuestVirtAddr(0xffffffffc0001000)}};
  const Leftovers left = find();
  EXPECT_THAT(left.wrong, IsEmpty());
  EXPECT_EQ(left.restored, 0U);
}

TEST_F(LeftoversTest, AreNotRuledOutWhereTheCodeCannotBeRead) {
  memory.fail_at(kFunction);
  EXPECT_THAT(find().wrong, ElementsAre(HasSubstr("cannot be read")));
}

TEST(ChangedFunctions, AreNamedOnceAndOnlyWhereTheyAreInMemory) {
  introspect::PatchedFunction function;
  function.name = "f";
  function.old_func = kFunction;
  introspect::PatchedFunction absent;
  absent.name = "g";
  introspect::LivepatchState state;
  for (const char* name : {"p1", "p2"}) {
    introspect::LivePatch patch;
    patch.name = name;
    patch.objects.push_back(
        {.name = "vmlinux", .patched = true, .callbacks = {}, .functions = {function}});
    patch.objects.push_back(
        {.name = "ext4", .patched = false, .callbacks = {}, .functions = {absent}});
    state.patches.push_back(patch);
  }
  const auto changed = changed_functions(state);
  ASSERT_EQ(changed.size(), 1U);
  EXPECT_EQ(changed[0].name, "f");
}

}  // namespace
}  // namespace vpatch

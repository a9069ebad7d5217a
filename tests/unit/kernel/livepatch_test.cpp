// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/livepatch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::MovingMemory;
using testing::put_list;
using ::testing::SizeIs;
using testing::SparseVirtualMemory;

// Two patches of the same function; the older has a module's object too.
constexpr std::uint64_t kOld = 0x10000, kNew = 0x20000;              // struct klp_patch
constexpr std::uint64_t kOldKernel = 0x11000, kOldModule = 0x12000;  // struct klp_object
constexpr std::uint64_t kNewKernel = 0x21000;                        //
constexpr std::uint64_t kOldFunc = 0x13000, kNewFunc = 0x23000;      // struct klp_func
constexpr std::uint64_t kModuleFunc = 0x14000;                       //
constexpr std::uint64_t kOps = 0x30000;                              // struct klp_ops
constexpr std::uint64_t kStates = 0x40000;                           // struct klp_state[]
constexpr std::uint64_t kPatches = 0x1000, kOpsHead = 0x1010, kTransition = 0x1020,
                        kTarget = 0x1028, kMutex = 0x1030, kSignals = 0x1038;

LivepatchLayout make_layout() {
  LivepatchLayout layout;
  layout.patches = GuestVirtAddr(kPatches);
  layout.ops = GuestVirtAddr(kOpsHead);
  layout.transition_patch = GuestVirtAddr(kTransition);
  layout.target_state = GuestVirtAddr(kTarget);
  layout.mutex = GuestVirtAddr(kMutex);
  layout.signals_count = GuestVirtAddr(kSignals);
  layout.patch_mod = 0;
  layout.patch_list = 32;
  layout.patch_obj_list = 112;
  layout.patch_enabled = 128;
  layout.patch_forced = 129;
  layout.patch_replace = 24;
  layout.patch_size = 200;
  layout.patch_states = 16;
  layout.state_id = 0;
  layout.state_version = 8;
  layout.state_size = 24;
  layout.object_name = 0;
  layout.object_func_list = 120;
  layout.object_node = 136;
  layout.object_patched = 161;
  layout.object_pre_patch = 16;
  layout.object_post_patch = 24;
  layout.object_pre_unpatch = 32;
  layout.object_post_unpatch = 40;
  layout.object_size = 168;
  layout.func_old_name = 0;
  layout.func_new_func = 8;
  layout.func_old_sympos = 16;
  layout.func_old_func = 24;
  layout.func_node = 96;
  layout.func_stack_node = 112;
  layout.func_old_size = 128;
  layout.func_new_size = 136;
  layout.func_nop = 144;
  layout.func_patched = 145;
  layout.func_transition = 146;
  layout.func_size = 152;
  layout.ops_node = 0;
  layout.ops_func_stack = 16;
  layout.ops_size = 64;
  layout.module_name = 24;
  layout.module_name_size = 56;
  return layout;
}

class LivepatchTest : public ::testing::Test {
 protected:
  LivepatchTest() {
    memory.put(GuestVirtAddr(kTransition), std::uint64_t{0});
    memory.put(GuestVirtAddr(kTarget), std::int32_t{-1});
    memory.put(GuestVirtAddr(kMutex), std::uint64_t{0});
    memory.put(GuestVirtAddr(kSignals), std::uint32_t{3});
    put_patch(kOld, 0xa0000, "old_patch");
    put_patch(kNew, 0xa1000, "new_patch");
    put_list(memory, kPatches, {kOld + 32, kNew + 32});
    put_object(kOldKernel, 0);
    put_object(kOldModule, 0xb0000);
    memory.put_text(GuestVirtAddr(0xb0000), "ext4");
    put_object(kNewKernel, 0);
    put_list(memory, kOld + 112, {kOldKernel + 136, kOldModule + 136});
    put_list(memory, kNew + 112, {kNewKernel + 136});
    put_function(kOldFunc, 0xf000, 0xd000);
    put_function(kNewFunc, 0xf000, 0xe000);
    put_function(kModuleFunc, 0, 0xd100);
    put_list(memory, kOldKernel + 120, {kOldFunc + 96});
    put_list(memory, kOldModule + 120, {kModuleFunc + 96});
    put_list(memory, kNewKernel + 120, {kNewFunc + 96});
    put_list(memory, kOpsHead, {kOps});
    memory.write(GuestVirtAddr(kOps + 16), std::vector<std::byte>(64));
    put_list(memory, kOps + 16, {kNewFunc + 112, kOldFunc + 112});
  }

  void put_patch(std::uint64_t at, std::uint64_t module, std::string_view name) {
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(200));
    memory.put(GuestVirtAddr(at), module);
    memory.write(GuestVirtAddr(module), std::vector<std::byte>(100));
    memory.put_text(GuestVirtAddr(module + 24), name);
  }

  void put_object(std::uint64_t at, std::uint64_t name) {
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(168));
    memory.put(GuestVirtAddr(at), name);
  }

  void put_function(std::uint64_t at, std::uint64_t old_func, std::uint64_t new_func) {
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(152));
    memory.put(GuestVirtAddr(at), std::uint64_t{0xb1000});
    memory.put_text(GuestVirtAddr(0xb1000), "cmdline_proc_show");
    memory.put(GuestVirtAddr(at + 8), new_func);
    memory.put(GuestVirtAddr(at + 24), old_func);
  }

  SparseVirtualMemory memory;
  LivepatchLayout layout = make_layout();
};

TEST_F(LivepatchTest, ListsPatchesOldestFirstWithTheirObjects) {
  memory.put(GuestVirtAddr(kNew + 128), std::uint8_t{1});
  memory.put(GuestVirtAddr(kNew + 129), std::uint8_t{1});
  memory.put(GuestVirtAddr(kNew + 24), std::uint8_t{1});
  memory.put(GuestVirtAddr(kOldKernel + 161), std::uint8_t{1});
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value()) << state.error().what;
  ASSERT_THAT(state->patches, SizeIs(2));
  const LivePatch& old_patch = state->patches[0];
  EXPECT_EQ(old_patch.name, "old_patch");
  EXPECT_EQ(old_patch.address, GuestVirtAddr(kOld));
  EXPECT_EQ(old_patch.module, GuestVirtAddr(0xa0000));
  EXPECT_FALSE(old_patch.enabled || old_patch.forced || old_patch.replace);
  ASSERT_THAT(old_patch.objects, SizeIs(2));
  EXPECT_EQ(old_patch.objects[0].name, "vmlinux");
  EXPECT_TRUE(old_patch.objects[0].patched);
  EXPECT_EQ(old_patch.objects[1].name, "ext4");
  EXPECT_FALSE(old_patch.objects[1].patched);
  const LivePatch& new_patch = state->patches[1];
  EXPECT_TRUE(new_patch.enabled && new_patch.forced && new_patch.replace);
}

TEST_F(LivepatchTest, TellsEveryFieldOfAFunction) {
  memory.put(GuestVirtAddr(kOldFunc + 16), std::uint64_t{2});
  memory.put(GuestVirtAddr(kOldFunc + 128), std::uint64_t{0x30});
  memory.put(GuestVirtAddr(kOldFunc + 136), std::uint64_t{0x1f});
  memory.put(GuestVirtAddr(kOldFunc + 145), std::uint8_t{1});
  memory.put(GuestVirtAddr(kOldFunc + 146), std::uint8_t{1});
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value());
  const PatchedFunction& function = state->patches[0].objects[0].functions.at(0);
  EXPECT_EQ(function.address, GuestVirtAddr(kOldFunc));
  EXPECT_EQ(function.name, "cmdline_proc_show");
  EXPECT_EQ(function.sympos, 2U);
  EXPECT_EQ(function.old_func, GuestVirtAddr(0xf000));
  EXPECT_EQ(function.new_func, GuestVirtAddr(0xd000));
  EXPECT_EQ(function.old_size, 0x30U);
  EXPECT_EQ(function.new_size, 0x1fU);
  EXPECT_TRUE(function.patched && function.transition);
  EXPECT_FALSE(function.nop);
}

TEST_F(LivepatchTest, ReadsStatesUpToTheEmptyOne) {
  memory.put(GuestVirtAddr(kNew + 16), kStates);
  memory.write(GuestVirtAddr(kStates), std::vector<std::byte>(72));
  memory.put(GuestVirtAddr(kStates), std::uint64_t{7});
  memory.put(GuestVirtAddr(kStates + 8), std::uint32_t{2});
  memory.put(GuestVirtAddr(kStates + 24), std::uint64_t{9});
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value()) << state.error().what;
  EXPECT_THAT(state->patches[0].states, IsEmpty());
  EXPECT_THAT(state->patches[1].states,
              ElementsAre(KlpState{.id = 7, .version = 2}, KlpState{.id = 9, .version = 0}));
}

TEST_F(LivepatchTest, RefusesStatesWithoutEnd) {
  memory.put(GuestVirtAddr(kNew + 16), kStates);
  memory.write(GuestVirtAddr(kStates),
               std::vector<std::byte>((kMaxKlpStates + 1) * 24, std::byte{1}));
  const auto state = read_livepatch(memory, layout);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::corrupt);
}

TEST_F(LivepatchTest, FailsAsTornWhereStatesCannotBeRead) {
  memory.put(GuestVirtAddr(kNew + 16), std::uint64_t{0x999000});
  const auto state = read_livepatch(memory, layout);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::torn);
}

TEST_F(LivepatchTest, TellsWhichCallbacksAreSet) {
  memory.put(GuestVirtAddr(kOldModule + 16), std::uint64_t{0xd000});
  memory.put(GuestVirtAddr(kOldModule + 40), std::uint64_t{0xd100});
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value()) << state.error().what;
  EXPECT_FALSE(state->patches[0].objects[0].callbacks.any());
  EXPECT_EQ(state->patches[0].objects[1].callbacks,
            (KlpCallbacks{.pre_patch = true, .post_unpatch = true}));
}

TEST_F(LivepatchTest, KnowsWhichReplacementIsInForce) {
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value());
  ASSERT_THAT(state->func_stacks, SizeIs(1));
  EXPECT_EQ(state->func_stacks[0].old_func, GuestVirtAddr(0xf000));
  EXPECT_THAT(state->func_stacks[0].functions,
              ElementsAre(GuestVirtAddr(kNewFunc), GuestVirtAddr(kOldFunc)));
}

TEST_F(LivepatchTest, SeesATransition) {
  memory.put(GuestVirtAddr(kTransition), kNew);
  memory.put(GuestVirtAddr(kTarget), std::int32_t{1});
  const auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->transition, 1U);
  EXPECT_EQ(state->target_state, 1);
  EXPECT_EQ(state->signals_count, 3U);
}

TEST_F(LivepatchTest, FailsAsTornWhenThePatchInTransitionIsNotListed) {
  memory.put(GuestVirtAddr(kTransition), std::uint64_t{0x999000});
  const auto state = read_livepatch(memory, layout);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::torn);
}

TEST_F(LivepatchTest, IsBusyWhileTheMutexHasAnOwner) {
  memory.put(GuestVirtAddr(kMutex), std::uint64_t{0xffff888000001001});
  auto state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value());
  EXPECT_TRUE(state->busy());
  EXPECT_EQ(state->mutex_owner, GuestVirtAddr(0xffff888000001000));
  memory.put(GuestVirtAddr(kMutex), std::uint64_t{1});  // a flag without an owner
  state = read_livepatch(memory, layout);
  ASSERT_TRUE(state.has_value());
  EXPECT_FALSE(state->busy());
}

TEST_F(LivepatchTest, ReadsTheWordsOfATransitionAlone) {
  memory.put(GuestVirtAddr(kTransition), kNew);
  memory.put(GuestVirtAddr(kTarget), std::int32_t{0});
  memory.put(GuestVirtAddr(kMutex), std::uint64_t{0xffff888000001003});
  memory.reads = 0;
  const auto now = read_transition(memory, layout);
  ASSERT_TRUE(now.has_value()) << now.error().what;
  EXPECT_EQ(now->patch, GuestVirtAddr(kNew));
  EXPECT_EQ(now->target_state, 0);
  EXPECT_EQ(now->mutex_owner, GuestVirtAddr(0xffff888000001000));
  EXPECT_EQ(now->signals_count, 3U);
  EXPECT_EQ(memory.reads, 4U);
}

TEST_F(LivepatchTest, DoesWithoutTheCountOfSignalsWhereTheKernelHasNone) {
  layout.signals_count.reset();
  const auto now = read_transition(memory, layout);
  ASSERT_TRUE(now.has_value()) << now.error().what;
  EXPECT_EQ(now->patch, GuestVirtAddr());
  EXPECT_EQ(now->target_state, -1);
  EXPECT_EQ(now->mutex_owner, GuestVirtAddr());
  EXPECT_EQ(now->signals_count, 0U);
}

TEST_F(LivepatchTest, FailsWhenAWordOfTheTransitionCannotBeRead) {
  layout.target_state = GuestVirtAddr(0x999000);
  const auto now = read_transition(memory, layout);
  ASSERT_FALSE(now.has_value());
  EXPECT_EQ(now.error().code, Errc::out_of_range);
}

TEST_F(LivepatchTest, FailsAsTornOnACycleOfFunctions) {
  memory.put(GuestVirtAddr(kOldFunc + 96), kOldFunc + 96);
  const auto state = read_livepatch(memory, layout);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::torn);
}

TEST_F(LivepatchTest, RefusesAFuncStackThatIsTooDeep) {
  std::vector<std::uint64_t> nodes;
  for (std::uint64_t index = 0; index <= kMaxFuncStack; ++index) {
    put_function(0x100000 + index * 0x100, 0xf000, 0xd000);
    nodes.push_back(0x100000 + index * 0x100 + 112);
  }
  put_list(memory, kOps + 16, nodes);
  const auto state = read_livepatch(memory, layout);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::corrupt);
}

TEST_F(LivepatchTest, ReadsAgainWhenAPatchLeftMeanwhile) {
  MovingMemory moving(memory);
  moving.before_read = [this](GuestVirtAddr address) {
    if (address == GuestVirtAddr(kNew)) {
      put_list(memory, kPatches, {kOld + 32});
      put_list(memory, kOps + 16, {kOldFunc + 112});
      memory.put(GuestVirtAddr(kNew + 40), std::uint64_t{0xdead000000000122});
    }
  };
  const auto state = read_livepatch(moving, layout);
  ASSERT_TRUE(state.has_value()) << state.error().what;
  EXPECT_THAT(state->patches, SizeIs(1));
  EXPECT_THAT(state->func_stacks[0].functions, SizeIs(1));
}

}  // namespace
}  // namespace vpatch::introspect

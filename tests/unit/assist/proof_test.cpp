// SPDX-License-Identifier: Apache-2.0
// When the host may move a task, and everything that forbids it.
#include "vmm-agent/assist/proof.h"

#include <array>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using introspect::Activity;
using introspect::GuestVirtAddr;
using introspect::StackKind;
using introspect::TaskStack;
using introspect::Unreliable;
using introspect::VirtRange;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr GuestVirtAddr kPatch(0xffffffffc0100000);
constexpr GuestVirtAddr kOld(0xffffffff81000000);
constexpr GuestVirtAddr kNew(0xffffffffc0001000);
constexpr GuestVirtAddr kElsewhere(0xffffffff81200010);
constexpr GuestVirtAddr kLivepatchCode(0xffffffff81100000);
constexpr std::uint64_t kSize = 0x100;

introspect::LivepatchState patching() {
  introspect::PatchedFunction function;
  function.address = GuestVirtAddr(1);
  function.name = "f";
  function.old_func = kOld;
  function.new_func = kNew;
  function.old_size = function.new_size = kSize;
  function.patched = true;
  introspect::LivePatch patch;
  patch.address = kPatch;
  patch.name = "p";
  patch.objects.push_back(
      {.name = "vmlinux", .patched = true, .callbacks = {}, .functions = {function}});
  introspect::LivepatchState state;
  state.patches.push_back(patch);
  state.func_stacks.push_back({kOld, {GuestVirtAddr(1)}});
  state.transition = 0;
  state.target_state = 1;
  return state;
}

/// A kernel thread that its CPU runs, pending, somewhere harmless.
TaskStack busy(std::uint32_t tid) {
  TaskStack stack;
  stack.task.tid = tid;
  stack.task.name = "busy";
  stack.task.on_cpu = true;
  stack.task.patch_state = 0;
  stack.task.patch_pending = true;
  stack.activity = Activity::in_kernel;
  stack.trace.frames = {{kElsewhere, true, StackKind::task}};
  return stack;
}

class Proof : public testing::Test {
 protected:
  SwitchProof prove() {
    cold.functions = introspect::forbidden_now(livepatch);
    return prove_switch({look, livepatch, unsafe, cold}, expected);
  }

  introspect::Look look = [] {
    introspect::Look one;
    one.tasks = {busy(7)};
    return one;
  }();
  introspect::LivepatchState livepatch = patching();
  std::vector<VirtRange> unsafe = {*VirtRange::make(kLivepatchCode, kSize)};
  introspect::ColdParts cold;
  ExpectedTransition expected{kPatch, 1};
};

TEST_F(Proof, MovesACleanBusyTask) {
  const SwitchProof proof = prove();
  EXPECT_EQ(proof.why_none, "");
  EXPECT_THAT(proof.tasks, ElementsAre(0));
  EXPECT_THAT(proof.refused, IsEmpty());
}

TEST_F(Proof, MovesATaskInUserMode) {
  look.tasks[0].activity = Activity::in_user;
  look.tasks[0].trace = {};
  EXPECT_THAT(prove().tasks, ElementsAre(0));
}

TEST_F(Proof, LeavesSleepersToTheKernel) {
  look.tasks[0].task.on_cpu = false;
  look.tasks[0].activity = Activity::asleep;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

TEST_F(Proof, LeavesThoseWhoHaveMoved) {
  look.tasks[0].task.patch_state = 1;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

TEST_F(Proof, LeavesATaskInTheMiddleOfMovingItself) {
  look.tasks[0].task.patch_pending = false;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

TEST_F(Proof, LeavesATaskOutsideOfTheTransition) {
  look.tasks[0].task.patch_state = -1;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

TEST_F(Proof, RefusesTheOldFunctionDeepOnTheStackWhilePatching) {
  look.tasks[0].trace.frames.push_back({GuestVirtAddr(kOld.value() + 5), false, StackKind::task});
  const SwitchProof proof = prove();
  EXPECT_THAT(proof.tasks, IsEmpty());
  ASSERT_THAT(proof.refused, SizeIs(1));
  EXPECT_EQ(proof.refused[0].why, "f is on its stack");
}

TEST_F(Proof, RefusesTheFirstInstructionOfTheOldFunction) {
  look.tasks[0].trace.frames[0].address = kOld;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

TEST_F(Proof, RefusesTheColdPartOfTheOldFunction) {
  cold.parts = {{"vmlinux", "f.cold", *VirtRange::make(kElsewhere, 0x10)}};
  const SwitchProof proof = prove();
  EXPECT_THAT(proof.tasks, IsEmpty());
  ASSERT_THAT(proof.refused, SizeIs(1));
  EXPECT_EQ(proof.refused[0].why, "f.cold is on its stack");
}

TEST_F(Proof, MovesNobodyWhenOtherFunctionsChangeThanWereLookedUp) {
  const SwitchProof proof = prove_switch({look, livepatch, unsafe, cold}, expected);
  EXPECT_THAT(proof.tasks, IsEmpty());
  EXPECT_THAT(proof.why_none, HasSubstr("other functions"));
}

TEST_F(Proof, AllowsTheNewFunctionWhilePatching) {
  look.tasks[0].trace.frames[0].address = kNew;
  EXPECT_THAT(prove().tasks, ElementsAre(0));
}

TEST_F(Proof, RefusesTheNewFunctionWhileUnpatching) {
  livepatch.target_state = expected.target_state = 0;
  look.tasks[0].task.patch_state = 1;
  look.tasks[0].trace.frames[0].address = kNew;
  EXPECT_THAT(prove().tasks, IsEmpty());
  look.tasks[0].trace.frames[0].address = kOld;
  EXPECT_THAT(prove().tasks, ElementsAre(0));
}

TEST_F(Proof, RefusesAnUnreliableStack) {
  look.tasks[0].trace.unreliable = Unreliable::no_orc;
  const SwitchProof proof = prove();
  EXPECT_THAT(proof.tasks, IsEmpty());
  EXPECT_THAT(proof.refused, SizeIs(1));
}

TEST_F(Proof, IsNotKeptFromItByTheIdleTaskOfAnOfflineCpu) {
  TaskStack idle = busy(0);
  idle.task.idle_of = 5;
  idle.activity = Activity::running;
  look.tasks.push_back(idle);
  introspect::Cpu cpu;
  cpu.number = 5;
  look.cpus.push_back(cpu);
  EXPECT_THAT(prove().tasks, ElementsAre(0));
  look.cpus.back().online = true;
  EXPECT_THAT(prove().tasks, IsEmpty());
}

struct ForbidsAll {
  std::string name;
  std::function<void(introspect::Look&, introspect::LivepatchState&, std::vector<VirtRange>&)>
      change;
  std::string why;
};

class ProofForbids : public Proof, public testing::WithParamInterface<ForbidsAll> {};

TEST_P(ProofForbids, ToMoveAnybody) {
  look.tasks.push_back(busy(8));
  look.tasks.push_back(busy(9));
  GetParam().change(look, livepatch, unsafe);
  const SwitchProof proof = prove();
  EXPECT_THAT(proof.tasks, IsEmpty());
  EXPECT_THAT(proof.why_none, HasSubstr(GetParam().why));
}

INSTANTIATE_TEST_SUITE_P(
    What, ProofForbids,
    testing::Values(
        ForbidsAll{"NoTransition", [](auto&, auto& state, auto&) { state.transition.reset(); },
                   "another transition"},
        ForbidsAll{"AnotherPatch",
                   [](auto&, auto& state, auto&) { state.patches[0].address = GuestVirtAddr(64); },
                   "another transition"},
        ForbidsAll{"AnotherDirection", [](auto&, auto& state, auto&) { state.target_state = 0; },
                   "another transition"},
        ForbidsAll{"MutexHeld",
                   [](auto&, auto& state, auto&) { state.mutex_owner = GuestVirtAddr(4096); },
                   "at work"},
        ForbidsAll{"LivepatchCodeNotKnown", [](auto&, auto&, auto& unsafe) { unsafe.clear(); },
                   "not known"},
        ForbidsAll{"TornTaskList", [](auto& look, auto&, auto&) { look.incomplete = true; },
                   "incomplete"},
        ForbidsAll{"ATaskRunsThatNoRegistersTellOf",
                   [](auto& look, auto&, auto&) { look.tasks[2].activity = Activity::running; },
                   "what busy (9) runs"},
        ForbidsAll{"ATaskRunsAGuestOfItsOwn",
                   [](auto& look, auto&, auto&) {
                     look.tasks[2].activity = Activity::in_user;
                     look.tasks[2].task.flags = 1;
                   },
                   "what busy (9) runs"},
        ForbidsAll{"LivepatchCodeOnASleepersStack",
                   [](auto& look, auto&, auto&) {
                     look.tasks[1].task.on_cpu = false;
                     look.tasks[1].activity = Activity::asleep;
                     look.tasks[1].trace.frames.push_back(
                         {GuestVirtAddr(kLivepatchCode.value() + 9), false, StackKind::task});
                   },
                   "busy (8) runs livepatch"},
        ForbidsAll{"NoFunctionKnown",
                   [](auto&, auto& state, auto&) { state.patches[0].objects.clear(); },
                   "which functions"}),
    [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace vpatch

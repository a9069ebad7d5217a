// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/quiesce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using introspect::Activity;
using introspect::ForbiddenFunction;
using introspect::GuestVirtAddr;
using introspect::TaskStack;

constexpr GuestVirtAddr kInside(0xffffffff81000010);
constexpr GuestVirtAddr kOutside(0xffffffff82000010);

const std::vector<ForbiddenFunction>& functions() {
  static const std::vector<ForbiddenFunction> list = {
      {"vmlinux", "foo", *introspect::VirtRange::make(GuestVirtAddr(0xffffffff81000000), 0x100)}};
  return list;
}

struct Case {
  const char* name;
  Activity activity;
  GuestVirtAddr address;
  introspect::Unreliable unreliable;
  bool idle;
  bool occupies;

  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

class Occupants : public testing::TestWithParam<Case> {};

TEST_P(Occupants, AreThoseInsideOrOfWhomThatCannotBeRuledOut) {
  const Case& one = GetParam();
  TaskStack stack;
  stack.activity = one.activity;
  stack.trace.unreliable = one.unreliable;
  if (one.activity != Activity::in_user) {
    stack.trace.frames.push_back({.address = one.address});
  }
  if (one.idle) {
    stack.task.idle_of = 0;
  }
  EXPECT_EQ(!occupants_of({stack}, functions()).empty(), one.occupies);
}

constexpr auto kNone = introspect::Unreliable::none;
constexpr auto kRunning = introspect::Unreliable::running;

INSTANTIATE_TEST_SUITE_P(
    Tasks, Occupants,
    testing::Values(Case{"AsleepInside", Activity::asleep, kInside, kNone, false, true},
                    Case{"AsleepOutside", Activity::asleep, kOutside, kNone, false, false},
                    Case{"AsleepWithAStackThatProvesNothing", Activity::asleep, kOutside,
                         introspect::Unreliable::no_orc, false, true},
                    Case{"InTheKernel", Activity::in_kernel, kOutside, kRunning, false, true},
                    Case{"SomewhereOnACpu", Activity::running, kOutside, kRunning, false, true},
                    Case{"InUserMode", Activity::in_user, kOutside, kRunning, false, false},
                    Case{"Idle", Activity::in_kernel, kOutside, kRunning, true, false},
                    Case{"IdleCpuInterruptedIntoIt", Activity::in_kernel, kInside, kRunning, true,
                         true}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vpatch

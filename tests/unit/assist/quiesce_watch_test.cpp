// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/quiesce_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using introspect::Activity;
using introspect::GuestVirtAddr;
using introspect::TaskStack;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int32_t kPatching = 1;
constexpr std::int32_t kMoved = 1;
constexpr std::int32_t kNotMoved = 0;

TaskStack sleeper(bool inside, std::int32_t state, std::uint64_t switches = 5) {
  TaskStack stack;
  stack.task.address = GuestVirtAddr(0x1000);
  stack.task.tid = 12;
  stack.task.name = "loop";
  stack.task.switches = switches;
  stack.task.patch_state = state;
  stack.activity = Activity::asleep;
  stack.trace.frames.push_back(
      {.address = GuestVirtAddr(inside ? 0xffffffff81000010 : 0xffffffff82000010)});
  return stack;
}

class QuiesceWatchTest : public testing::Test {
 protected:
  void before(const TaskStack& task) { watch.see_before(std::span(&task, 1)); }
  void look(const TaskStack& task) { watch.see(std::span(&task, 1), kPatching); }
  void end(const TaskStack& task) { watch.see_end(std::span(&task, 1)); }
  std::vector<std::string> told() const {
    std::vector<std::string> texts;
    for (const AssistNote& note : watch.notes()) {
      texts.push_back(note.id + ": " + note.text);
    }
    return texts;
  }

  QuiesceWatch watch{
      {{"vmlinux", "foo", *introspect::VirtRange::make(GuestVirtAddr(0xffffffff81000000), 0x100)}}};
  const std::string kCertain = "quiesce-reentered: loop (12) was moved with foo on its stack";
  const std::string kPerhaps =
      "quiesce-reentered: loop (12) may have been moved with foo on its stack";
};

TEST_F(QuiesceWatchTest, HasNothingToTellOfATaskThatStaysOutside) {
  look(sleeper(false, kNotMoved));
  look(sleeper(false, kMoved));
  end(sleeper(false, -1));
  EXPECT_THAT(told(), IsEmpty());
}

TEST_F(QuiesceWatchTest, IsCertainOfATaskThatSleptInsideWhileItWasMoved) {
  look(sleeper(true, kNotMoved));
  look(sleeper(true, kMoved));
  EXPECT_THAT(told(), ElementsAre(kCertain));
}

TEST_F(QuiesceWatchTest, IsNotCertainOfATaskThatRanInBetween) {
  look(sleeper(true, kNotMoved));
  look(sleeper(true, kMoved, 6));
  EXPECT_THAT(told(), ElementsAre(kPerhaps));
}

TEST_F(QuiesceWatchTest, IsNotCertainOfATaskThatHasLeftSince) {
  look(sleeper(true, kNotMoved));
  look(sleeper(false, kMoved, 6));
  EXPECT_THAT(told(), ElementsAre(kPerhaps));
}

TEST_F(QuiesceWatchTest, HasNothingToTellOfATaskThatLeftBeforeItWasMoved) {
  look(sleeper(true, kNotMoved));
  look(sleeper(false, kNotMoved, 6));
  look(sleeper(false, kMoved, 7));
  EXPECT_THAT(told(), IsEmpty());
}

TEST_F(QuiesceWatchTest, SeesATaskMovedInTheFirstPassThatWasInsideJustBefore) {
  before(sleeper(true, -1));
  look(sleeper(true, kMoved));
  EXPECT_THAT(told(), ElementsAre(kCertain));
}

TEST_F(QuiesceWatchTest, IsNotCertainOfATaskFirstSeenInsideWhenItHadMoved) {
  before(sleeper(false, -1));
  look(sleeper(true, kMoved, 6));
  EXPECT_THAT(told(), ElementsAre(kPerhaps));
}

TEST_F(QuiesceWatchTest, TakesTheEndOfTheTransitionForAMove) {
  look(sleeper(true, kNotMoved));
  end(sleeper(true, -1));
  EXPECT_THAT(told(), ElementsAre(kCertain));
}

TEST_F(QuiesceWatchTest, HasNothingToTellOfATaskThatGoesInAfterItsMove) {
  look(sleeper(false, kMoved));
  look(sleeper(true, kMoved, 6));
  end(sleeper(true, -1, 6));
  EXPECT_THAT(told(), IsEmpty());
}

TEST_F(QuiesceWatchTest, DoesNotTakeAnotherTaskAtTheSameAddressForThatOne) {
  look(sleeper(true, kNotMoved));
  TaskStack other = sleeper(true, kMoved);
  other.task.start_ns = 99;
  look(other);
  EXPECT_THAT(told(), IsEmpty());
}

TEST_F(QuiesceWatchTest, SaysWhenItHasSeenNothing) {
  EXPECT_THAT(told(), ElementsAre(HasSubstr("quiesce-unseen: ")));
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/progress_lines.h"

#include <condition_variable>
#include <mutex>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class ProgressLinesTest : public testing::Test {
 protected:
  std::vector<std::string> lines() {
    const std::scoped_lock lock(mutex_);
    return lines_;
  }
  /// Until this was the last; false when it did not come.
  bool await_last(const std::string& line) {
    std::unique_lock lock(mutex_);
    return written_.wait_for(lock, 60s, [&] { return !lines_.empty() && lines_.back() == line; });
  }
  /// Until so many lines were written; the wait is bounded for a broken test alone.
  std::vector<std::string> await(std::size_t count) {
    std::unique_lock lock(mutex_);
    written_.wait_for(lock, 60s, [&] { return lines_.size() >= count; });
    return lines_;
  }
  ProgressLines::Write write() {
    return [this](const std::string& line) {
      const std::scoped_lock lock(mutex_);
      lines_.push_back(line);
      written_.notify_all();
    };
  }

 private:
  std::mutex mutex_;
  std::condition_variable written_;
  std::vector<std::string> lines_;
};

TEST_F(ProgressLinesTest, MarkWhatTheyTell) {
  ProgressLines told(write(), 0ms);
  told.step("loaded");
  told.warning("odd");
  told.progress("2 pending");
  EXPECT_THAT(await(3), ElementsAre("- loaded\n", "warning: odd\n", "progress: 2 pending\n"));
}

TEST_F(ProgressLinesTest, AreOneLineEach) {
  ProgressLines told(write(), 0ms);
  told.step("a\nb\033[2J");
  EXPECT_THAT(lines(), ElementsAre("- a?b?[2J\n"));
}

TEST_F(ProgressLinesTest, KeepProgressApart) {
  ProgressLines told(write(), 1h);
  told.progress("1 of 9");
  await(1);
  told.progress("2 of 9");
  told.step("done");
  EXPECT_THAT(lines(), ElementsAre("progress: 1 of 9\n", "- done\n"));
}

TEST_F(ProgressLinesTest, TellTheNewestProgressInTheEnd) {
  ProgressLines told(write(), 50ms);
  told.progress("1 of 9");
  await(1);
  for (const char* text : {"2 of 9", "3 of 9", "loading"}) {
    told.progress(text);
  }
  EXPECT_TRUE(await_last("progress: loading\n"));
}

TEST_F(ProgressLinesTest, TellChangesAlone) {
  ProgressLines told(write(), 0ms);
  told.progress("same");
  await(1);
  told.progress("same");
  told.progress("other");
  EXPECT_THAT(await(2), ElementsAre("progress: same\n", "progress: other\n"));
}

TEST_F(ProgressLinesTest, TellTheSameAgainAfterAStep) {
  ProgressLines told(write(), 0ms);
  told.progress("reading the guest");
  await(1);
  told.step("one");
  told.progress("reading the guest");
  EXPECT_EQ(await(3).back(), "progress: reading the guest\n");
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/journal_figures.h"

#include <numeric>

#include <gtest/gtest.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch::exporter {
namespace {

class FiguresTest : public JournalTest {
 protected:
  OperationId begin(const std::string& verb = "apply") {
    OperationStart start = some_start();
    start.verb = verb;
    return open().begin(start).value();
  }
  void end(OperationId operation, const OperationEnd& end = some_end()) {
    EXPECT_TRUE(open().end(operation, end));
  }
  void add(const std::string& verb = "apply") { end(begin(verb)); }
  std::uint64_t count(const JournalFigures& figures, const std::string& verb = "apply") const {
    return figures.figures().operations.at({verb, "stalled-reverted"});
  }
};

std::uint64_t count_of(const Histogram& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), std::uint64_t{0});
}

TEST(Histogram, PutsAValueIntoTheFirstBucketThatHoldsIt) {
  Histogram histogram({1, 2});
  for (const double value : {0.5, 1.0, 1.5, 2.0, 2.5}) {
    histogram.add(value);
  }
  EXPECT_EQ(histogram.counts, (std::vector<std::uint64_t>{2, 2, 1}));
  EXPECT_EQ(histogram.sum, 7.5);
}

TEST_F(FiguresTest, CountsEachOperationOnce) {
  JournalFigures figures(file());
  for (std::uint64_t i = 1; i <= 3; ++i) {
    add();
    ASSERT_TRUE(figures.update());
    EXPECT_EQ(count(figures), i);
  }
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 3U);
  EXPECT_EQ(count_of(figures.figures().transitions.at("apply")), 3U);
}

TEST_F(FiguresTest, CountsAnOperationWhenItHasEnded) {
  JournalFigures figures(file());
  const OperationId first = begin();
  add();
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 1U);
  end(first);
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 2U);
}

TEST_F(FiguresTest, AreTheSameToANewReader) {
  JournalFigures old(file());
  for (int i = 0; i < 3; ++i) {
    add(i == 1 ? "revert" : "apply");
    ASSERT_TRUE(old.update());
  }
  JournalFigures restarted(file());
  ASSERT_TRUE(restarted.update());
  EXPECT_EQ(restarted.figures().operations, old.figures().operations);
  EXPECT_EQ(restarted.figures().transitions.at("apply").counts,
            old.figures().transitions.at("apply").counts);
  EXPECT_EQ(restarted.figures().pauses.at("revert").sum, old.figures().pauses.at("revert").sum);
}

TEST_F(FiguresTest, ReadMoreThanOnePage) {
  {
    Journal journal = open();
    for (int i = 0; i < 1001; ++i) {
      ASSERT_TRUE(journal.end(journal.begin(some_start()).value(), some_end()));
    }
  }
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 1001U);
}

TEST_F(FiguresTest, AreInSeconds) {
  add();
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  EXPECT_DOUBLE_EQ(figures.figures().transitions.at("apply").sum, 0.015);
  EXPECT_DOUBLE_EQ(figures.figures().pauses.at("apply").sum, 0.0037);
  const LastTransition& last = figures.figures().last.at(some_start().identity);
  EXPECT_DOUBLE_EQ(last.transition_seconds, 0.015);
  EXPECT_DOUBLE_EQ(last.pause_seconds, 0.0037);
}

TEST_F(FiguresTest, HaveNoPauseWhereThereWasNone) {
  OperationEnd unpaused = some_end();
  unpaused.pause_us = 0;
  unpaused.pauses = 0;
  end(begin(), unpaused);
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count_of(figures.figures().pauses.at("apply")), 0U);
  EXPECT_EQ(figures.figures().last.at(some_start().identity).pause_seconds, 0);
}

TEST_F(FiguresTest, HaveTheNewestTransitionOfADomain) {
  const OperationId first = begin();
  OperationEnd quick = some_end();
  quick.transition_us = 1'000;
  end(begin(), quick);
  OperationEnd refused = some_end();
  refused.transition_us.reset();
  end(begin(), refused);
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  end(first);  // ends later, and is the older one
  ASSERT_TRUE(figures.update());
  EXPECT_DOUBLE_EQ(figures.figures().last.at(some_start().identity).transition_seconds, 0.001);
}

TEST_F(FiguresTest, HaveFewVerbs) {
  add("dance");
  add("sing");
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures, "other"), 2U);
  EXPECT_EQ(count(figures, "force"), 0U);
  EXPECT_EQ(count_of(figures.figures().transitions.at("other")), 2U);
}

TEST_F(FiguresTest, AreNoneWithoutAJournalWhichIsNotMade) {
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 0U);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(FiguresTest, BeginAnewWithAnotherFile) {
  add();
  add();
  JournalFigures figures(file());
  ASSERT_TRUE(figures.update());
  std::filesystem::rename(file().parent_path(), folder() / "former");
  add();
  ASSERT_TRUE(figures.update());
  EXPECT_EQ(count(figures), 1U);
}

TEST_F(FiguresTest, SayThatTheJournalCannotBeRead) {
  std::filesystem::create_directories(file());
  JournalFigures figures(file());
  EXPECT_FALSE(figures.update());
}

}  // namespace
}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/registered.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch {
namespace {

using testing::HasSubstr;

StoredEvent event(const std::string& kind, boost::json::object detail = {}) {
  return {.sequence = 1, .at = "", .kind = kind, .detail = std::move(detail)};
}

StoredOperation ended(std::optional<Outcome> outcome) {
  StoredOperation operation;
  operation.started_at = "then";
  if (outcome) {
    operation.end = OperationEnd{.outcome = *outcome, .summary = "how it ended"};
  }
  return operation;
}

TEST(JudgeLoad, TellsHarmFromOtherEnds) {
  const std::vector<StoredEvent> load = {event("begin"), event("load", {{"boot_id", "b1"}})};
  std::vector<StoredEvent> rebooted = load;
  rebooted.push_back(event("rebooted"));
  struct Row {
    std::optional<Outcome> outcome;
    const std::vector<StoredEvent>& events;
    LastLoad::End end;
  };
  const std::vector<Row> rows = {
      {Outcome::done, load, LastLoad::End::well},
      {Outcome::stalled_reverted, load, LastLoad::End::well},
      {Outcome::stalled_waiting, load, LastLoad::End::well},
      {Outcome::failed_restored, load, LastLoad::End::well},
      {Outcome::failed_restored, rebooted, LastLoad::End::trouble},
      {Outcome::failed_needs_look, load, LastLoad::End::trouble},
      {Outcome::internal, load, LastLoad::End::unknown},
      {std::nullopt, load, LastLoad::End::unknown},
  };
  for (const Row& row : rows) {
    const LastLoad last = judge_load(ended(row.outcome), row.events);
    EXPECT_EQ(last.end, row.end) << (row.outcome ? to_string(*row.outcome) : "no end");
    EXPECT_EQ(last.in_force, row.outcome == Outcome::done);
    EXPECT_EQ(last.boot_id, "b1");
    EXPECT_EQ(last.at, "then");
  }
  EXPECT_EQ(judge_load(ended(Outcome::failed_needs_look), load).text, "how it ended");
}

TEST(JudgeLoad, StrangeDetailIsPassedOver) {
  EXPECT_EQ(judge_load(ended(Outcome::done), {event("load", {{"boot_id", 7}})}).boot_id, "");
}

TEST_F(JournalTest, CopyThatIsNoLivepatchIsAnError) {
  Journal journal = open();
  const OperationId id = journal.begin(some_start()).value();
  ASSERT_TRUE(journal.register_patch(id, some_registration(), some_file()));
  const auto read = read_registered(journal, some_registration());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().outcome, Outcome::refused);
  EXPECT_THAT(read.error().what, HasSubstr("web01: the kept copy of fix_pipe"));
}

}  // namespace
}  // namespace vpatch

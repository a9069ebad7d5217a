// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/history_output.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/cli/history.h"

namespace vpatch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

StoredOperation some_operation() {
  return {.id = OperationId{7},
          .started_at = "2026-11-21T09:41:23.000017Z",
          .user = "alice",
          .start = some_start(),
          .ended_at = "2026-11-21T09:41:25.000017Z",
          .end = some_end()};
}

TEST(HistoryOfAFile, ThatIsAFolderIsRefused) {
  HistoryOptions options;
  options.verify = testing::TempDir();
  const auto shown = show_history(options, Style(false));
  ASSERT_FALSE(shown.has_value());
  EXPECT_EQ(shown.error().outcome, Outcome::refused);
  EXPECT_THAT(shown.error().what, HasSubstr("cannot be read: Is a directory"));
}

TEST(HistoryTable, HasALineForEachOperation) {
  StoredOperation unfinished = some_operation();
  unfinished.id = OperationId{8};
  unfinished.end.reset();
  const std::string text = render({unfinished, some_operation()}, Style(false));
  EXPECT_THAT(text,
              AllOf(HasSubstr("8   2026-11-21 09:41:23  alice  web01   apply  fix_pipe  no end\n"),
                    HasSubstr("7   2026-11-21 09:41:23  alice  web01   apply  fix_pipe  "
                              "stalled-reverted  15.0 ms\n")));
  EXPECT_EQ(render(std::vector<StoredOperation>(), Style(false)), "no operations\n");
}

TEST(HistoryTable, HostileNamesDoNotReachTheTerminal) {
  StoredOperation operation = some_operation();
  operation.start.patch = "a\x1b[2J\nb";
  const StoredEvent event{.sequence = 1, .at = "", .kind = "\x1b", .detail = {{"text", "\x1b\n"}}};
  EXPECT_THAT(render({operation}, Style(false)), Not(HasSubstr("\x1b")));
  EXPECT_THAT(render(operation, {event}, Style(false)), Not(HasSubstr("\x1b")));
}

TEST(HistoryOfOneOperation, ShowsItsEvents) {
  const StoredEvent step{.sequence = 1,
                         .at = "2026-11-21T09:41:23.500000Z",
                         .kind = "step",
                         .detail = {{"text", "loaded fix_pipe"}}};
  const StoredEvent pause{.sequence = 2, .at = "", .kind = "switch", .detail = {{"pause_us", 3}}};
  EXPECT_THAT(render(some_operation(), {step, pause}, Style(false)),
              AllOf(HasSubstr("2026-11-21T09:41:23.500  step       loaded fix_pipe\n"),
                    HasSubstr("{\"pause_us\":3}"), HasSubstr("build id       bbbb")));
}

TEST(HistoryJson, SaysWhatIsNotKnownAsNull) {
  StoredOperation operation = some_operation();
  EXPECT_EQ(to_json(operation).at("transition_us"), 15'000);
  EXPECT_EQ(to_json(operation).at("outcome"), "stalled-reverted");
  operation.end.reset();
  EXPECT_TRUE(to_json(operation).at("ended_at").is_null());
  EXPECT_TRUE(to_json(operation).at("outcome").is_null());
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/store_support.h"
#include "vmm-agent/journal/now_utc.h"

namespace vpatch::fleet {
namespace {

using rollout::DomainRecord;
using rollout::DomainState;
using rollout::RolloutRecord;
using rollout::Step;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> kinds(RolloutStore& store, RolloutId rollout, std::size_t after = 0) {
  std::vector<std::string> list;
  const auto events = store.events(rollout, after).value();
  list.reserve(events.size());
  for (const RolloutEvent& event : events) {
    list.push_back(event.kind);
  }
  return list;
}

RolloutEvent event_of(const std::string& kind) {
  return {.at = now_utc(), .domain = {}, .kind = kind, .text = "why"};
}

std::vector<std::string> identities(const NewRollout& rollout) {
  std::vector<std::string> list;
  list.reserve(rollout.domains.size());
  for (const RolloutDomain& domain : rollout.domains) {
    list.push_back(domain.identity);
  }
  return list;
}

RolloutRecord finished() {
  RolloutRecord record;
  record.finished = true;
  return record;
}

TEST_F(RolloutStoreTest, WhatARolloutBeganWithIsGivenBack) {
  const NewRollout rollout = some_rollout();
  const RolloutId id = store_.create(rollout).value();
  const StoredRollout stored = store_.load("fix").value();
  EXPECT_EQ(stored.id, id);
  EXPECT_EQ(stored.begin.name, rollout.name);
  EXPECT_EQ(stored.begin.plan, rollout.plan);
  EXPECT_EQ(stored.begin.seed, rollout.seed);
  EXPECT_EQ(stored.begin.vpatch_version, rollout.vpatch_version);
  EXPECT_EQ(stored.begin.files, rollout.files);
  EXPECT_EQ(stored.record, RolloutRecord());
  EXPECT_THAT(stored.started_at, testing::MatchesRegex("2.*Z"));
  EXPECT_EQ(stored.ended_at, "");
  EXPECT_NE(stored.user, "");
}

TEST_F(RolloutStoreTest, DomainsAreGivenBackInTheirOrder) {
  NewRollout rollout = some_rollout("fix", 12);
  rollout.domains[11].file = std::nullopt;
  ASSERT_TRUE(store_.create(rollout));
  const auto domains = store_.load("fix").value().begin.domains;
  ASSERT_EQ(domains.size(), 12U);
  for (std::size_t number = 0; number < domains.size(); ++number) {
    EXPECT_EQ(domains[number].connection, rollout.domains[number].connection);
    EXPECT_EQ(domains[number].name, rollout.domains[number].name);
    EXPECT_EQ(domains[number].identity, rollout.domains[number].identity);
    EXPECT_EQ(domains[number].release, rollout.domains[number].release);
    EXPECT_EQ(domains[number].wave, rollout.domains[number].wave);
    EXPECT_EQ(domains[number].file, rollout.domains[number].file);
    EXPECT_EQ(domains[number].record, DomainRecord());
    EXPECT_EQ(domains[number].mark, std::nullopt);
    EXPECT_EQ(domains[number].apply_report, std::nullopt);
  }
}

TEST_F(RolloutStoreTest, RecordsAndReportsThatADomainBeginsWithAreGivenBack) {
  NewRollout rollout = some_rollout();
  RolloutDomain& domain = rollout.domains[1];
  domain.record = some_record(DomainState::off);
  domain.mark = HealthMark{.boot_id = "b1", .log_sequence = 7, .taint = 4096};
  domain.former = {std::string(64, 'd'), std::string(64, 'c')};
  domain.health_report = some_report();
  ASSERT_TRUE(store_.create(rollout));
  const RolloutDomain stored = store_.load("fix").value().begin.domains[1];
  EXPECT_EQ(stored.record, domain.record);
  EXPECT_EQ(stored.mark, domain.mark);
  EXPECT_EQ(stored.former, domain.former);
  EXPECT_EQ(stored.health_report, domain.health_report);
}

TEST_F(RolloutStoreTest, RecordOfEachStateIsRestored) {
  const RolloutId id = store_.create(some_rollout("fix", rollout::kDomainStates)).value();
  Step step;
  for (rollout::DomainId domain = 0; domain < rollout::kDomainStates; ++domain) {
    step.domains.push_back({domain, some_record(static_cast<DomainState>(domain))});
  }
  ASSERT_TRUE(store_.save(id, step, {}));
  const auto domains = store_.load("fix").value().begin.domains;
  for (const rollout::DomainChange& change : step.domains) {
    EXPECT_EQ(domains[change.domain].record, change.record) << change.domain;
  }
}

TEST_F(RolloutStoreTest, EachOutcomeIsRestored) {
  const RolloutId id = store_.create(some_rollout()).value();
  for (const Outcome outcome :
       {Outcome::done, Outcome::usage, Outcome::refused, Outcome::stalled_reverted,
        Outcome::stalled_waiting, Outcome::unreachable, Outcome::failed_restored,
        Outcome::failed_needs_look, Outcome::unrecorded, Outcome::internal}) {
    DomainRecord record;
    record.outcome = outcome;
    ASSERT_TRUE(store_.save(id, {.domains = {{0, record}}, .rollout = {}, .actions = {}}, {}));
    EXPECT_EQ(store_.load("fix").value().begin.domains[0].record, record);
  }
}

TEST_F(RolloutStoreTest, RecordOfTheRolloutIsRestored) {
  const RolloutId id = store_.create(some_rollout()).value();
  for (std::uint8_t course = 0; course < 3; ++course) {
    for (std::uint8_t cause = 0; cause < 7; ++cause) {
      const RolloutRecord record{.course = static_cast<rollout::Course>(course),
                                 .paused = true,
                                 .finished = cause % 2 == 1,
                                 .cause = static_cast<rollout::Cause>(cause),
                                 .domain = 2,
                                 .text = "of the cause",
                                 .wave = 3,
                                 .soak_until = rollout::Time(std::chrono::seconds(1'800'000'001)),
                                 .accepted = 5};
      ASSERT_TRUE(store_.save(id, {.domains = {}, .rollout = record, .actions = {}}, {}));
      EXPECT_EQ(store_.load("fix").value().record, record);
    }
  }
  ASSERT_TRUE(store_.save(id, {.domains = {}, .rollout = RolloutRecord(), .actions = {}}, {}));
  EXPECT_EQ(store_.load("fix").value().record, RolloutRecord());
}

TEST_F(RolloutStoreTest, EndIsWhenItFinishedLast) {
  const RolloutId id = store_.create(some_rollout()).value();
  const auto save = [&](const RolloutRecord& record) {
    EXPECT_TRUE(store_.save(id, {.domains = {}, .rollout = record, .actions = {}}, {}));
    return store_.load("fix").value().ended_at;
  };
  const std::string first = save(finished());
  EXPECT_THAT(first, testing::MatchesRegex("2.*Z"));
  EXPECT_EQ(save(finished()), first) << "it has not finished again";
  EXPECT_EQ(save({}), "");
  EXPECT_GT(save(finished()), first);
}

TEST_F(RolloutStoreTest, MarkIsRestoredWithTheFilesThatWereInForce) {
  const RolloutId id = store_.create(some_rollout()).value();
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  const HealthMark mark{.boot_id = "", .log_sequence = kMost, .taint = kMost - 1};
  const std::vector<std::string> former(3, std::string(64, 'e'));
  ASSERT_TRUE(store_.save_mark(id, 1, {}, former));
  ASSERT_TRUE(store_.save_mark(id, 1, mark, std::vector{std::string(64, 'f')}));
  const auto domains = store_.load("fix").value().begin.domains;
  EXPECT_EQ(domains[1].mark, mark);
  EXPECT_THAT(domains[1].former, ElementsAre(std::string(64, 'f'))) << "not those of before";
  EXPECT_EQ(domains[0].mark, std::nullopt);
}

TEST_F(RolloutStoreTest, LastReportOfEachKindIsKept) {
  const RolloutId id = store_.create(some_rollout()).value();
  boost::json::object newer = some_report();
  newer["outcome"] = "refused";
  using Kind = RolloutStore::ReportKind;
  ASSERT_TRUE(store_.save_report(id, 0, Kind::apply, some_report()));
  ASSERT_TRUE(store_.save_report(id, 0, Kind::apply, newer));
  ASSERT_TRUE(store_.save_report(id, 0, Kind::health, {{"verdict", "pass"}}));
  const RolloutDomain domain = store_.load("fix").value().begin.domains[0];
  EXPECT_EQ(domain.apply_report, newer);
  EXPECT_EQ(domain.revert_report, std::nullopt);
  EXPECT_EQ(domain.health_report, (boost::json::object{{"verdict", "pass"}}));
  EXPECT_EQ(
      store_.load("fix", RolloutStore::Reports::left_out).value().begin.domains[0].apply_report,
      std::nullopt);
}

TEST_F(RolloutStoreTest, EventsAreGivenBackFromANumberOn) {
  const RolloutId id = store_.create(some_rollout()).value();
  const RolloutId other = store_.create(some_rollout("other", 0)).value();
  const RolloutEvent event{
      .at = "2026-11-21T09:41:23.000017Z", .domain = 2, .kind = "applying", .text = "canary"};
  ASSERT_TRUE(store_.add_event(id, event));
  ASSERT_TRUE(store_.add_event(other, event_of("started")));
  ASSERT_TRUE(store_.save(id, {}, std::vector{event_of("wave"), event_of("paused")}));
  const RolloutEvent stored = store_.events(id).value().front();
  EXPECT_EQ(stored.at, event.at);
  EXPECT_EQ(stored.domain, event.domain);
  EXPECT_EQ(stored.kind, event.kind);
  EXPECT_EQ(stored.text, event.text);
  EXPECT_THAT(kinds(store_, id), ElementsAre("applying", "wave", "paused"));
  EXPECT_THAT(kinds(store_, id, 1), ElementsAre("wave", "paused"));
  EXPECT_THAT(kinds(store_, id, 3), IsEmpty());
  EXPECT_EQ(store_.events(id).value()[1].domain, std::nullopt);
}

TEST_F(RolloutStoreTest, ListHasTheNewestFirstWithTheStatesOfTheirDomains) {
  const RolloutId first = store_.create(some_rollout("first", 5)).value();
  ASSERT_TRUE(store_.create(some_rollout("second", 0)));
  Step step{.domains = {{1, some_record(DomainState::done)}, {3, some_record(DomainState::done)}},
            .rollout = finished(),
            .actions = {}};
  ASSERT_TRUE(store_.save(first, step, {}));
  const auto list = store_.list().value();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].name, "second");
  EXPECT_EQ(list[0].domains, rollout::StateCounts());
  EXPECT_EQ(list[1].name, "first");
  EXPECT_EQ(list[1].record, finished());
  EXPECT_NE(list[1].ended_at, "");
  EXPECT_EQ(list[1].domains.of(DomainState::done), 2U);
  EXPECT_EQ(list[1].domains.of(DomainState::waiting), 3U);
}

TEST_F(RolloutStoreTest, OverlapsAreWithUnfinishedRolloutsOnly) {
  const NewRollout rollout = some_rollout();
  const RolloutId id = store_.create(rollout).value();
  const auto overlaps = store_.overlaps(std::vector{rollout.domains[2].identity, std::string("x")});
  ASSERT_EQ(overlaps.value().size(), 1U);
  EXPECT_EQ(overlaps.value()[0].rollout, "fix");
  EXPECT_EQ(overlaps.value()[0].domain, "web2");
  ASSERT_TRUE(store_.save(id, {.domains = {}, .rollout = finished(), .actions = {}}, {}));
  EXPECT_THAT(store_.overlaps(identities(rollout)).value(), IsEmpty());
  ASSERT_TRUE(store_.save(id, {.domains = {}, .rollout = RolloutRecord(), .actions = {}}, {}));
  EXPECT_EQ(store_.overlaps(identities(rollout)).value().size(), 3U) << "it goes on";
}

TEST_F(RolloutStoreTest, DomainWithoutAFileIsNotHeld) {
  NewRollout rollout = some_rollout();
  rollout.domains[0].file = std::nullopt;
  ASSERT_TRUE(store_.create(rollout));
  EXPECT_THAT(store_.overlaps(std::vector{rollout.domains[0].identity}).value(), IsEmpty());
  NewRollout other = some_rollout("other", 1);
  EXPECT_TRUE(store_.create(other));
}

TEST_F(RolloutStoreTest, OverlapsAreTheFirstHundred) {
  const NewRollout rollout = some_rollout("fix", 150);
  ASSERT_TRUE(store_.create(rollout));
  EXPECT_EQ(store_.overlaps(identities(rollout)).value().size(), 100U);
}

TEST_F(RolloutStoreTest, CommandsWaitUntilTheyAreTaken) {
  using Kind = rollout::Command::Kind;
  const RolloutId id = store_.create(some_rollout()).value();
  const RolloutId other = store_.create(some_rollout("other", 0)).value();
  std::vector<CommandId> asked;
  for (const Kind kind : {Kind::pause, Kind::resume, Kind::abort, Kind::rollback}) {
    asked.push_back(store_.ask(id, {.kind = kind, .text = "root: why"}).value());
  }
  RolloutStore driver = open_store();
  const auto commands = driver.commands(id).value();
  ASSERT_EQ(commands.size(), 4U);
  EXPECT_EQ(commands[0].id, asked[0]);
  EXPECT_EQ(commands[0].command.text, "root: why");
  EXPECT_EQ(commands[0].command.kind, Kind::pause);
  EXPECT_EQ(commands[3].command.kind, Kind::rollback);
  EXPECT_THAT(driver.commands(other).value(), IsEmpty());
  ASSERT_TRUE(driver.take(asked[0]));
  EXPECT_TRUE(store_.was_taken(asked[0]).value());
  EXPECT_FALSE(store_.was_taken(asked[1]).value());
  EXPECT_EQ(driver.commands(id).value().front().id, asked[1]);
  EXPECT_FALSE(driver.take(asked[0])) << "somebody else's by now";
}

TEST_F(RolloutStoreTest, TextsAreKeptWhateverBytesTheyHave) {
  const std::string text = hostile_text();
  NewRollout rollout = some_rollout();
  rollout.plan = text;
  rollout.files[0].path = text;
  rollout.domains[0].name = text;
  rollout.domains[0].identity = text;
  rollout.domains[0].release = text;
  rollout.domains[0].connection = text;
  rollout.domains[0].record.text = text;
  rollout.domains[0].apply_report = boost::json::object{{text, text}};
  rollout.domains[0].mark = HealthMark{.boot_id = text};
  const RolloutId id = store_.create(rollout).value();
  ASSERT_TRUE(store_.add_event(id, {.at = "", .domain = 0, .kind = text, .text = text}));
  const StoredRollout stored = store_.load("fix").value();
  EXPECT_EQ(stored.begin.plan, text);
  EXPECT_EQ(stored.begin.files, rollout.files);
  EXPECT_EQ(stored.begin.domains[0].name, text);
  EXPECT_EQ(stored.begin.domains[0].identity, text);
  EXPECT_EQ(stored.begin.domains[0].release, text);
  EXPECT_EQ(stored.begin.domains[0].connection, text);
  EXPECT_EQ(stored.begin.domains[0].record.text, text);
  EXPECT_EQ(stored.begin.domains[0].apply_report, rollout.domains[0].apply_report);
  EXPECT_EQ(stored.begin.domains[0].mark, rollout.domains[0].mark);
  EXPECT_EQ(store_.events(id).value()[0].text, text);
  const auto overlaps = store_.overlaps(std::vector{text}).value();
  ASSERT_EQ(overlaps.size(), 1U);
  EXPECT_EQ(overlaps[0].domain, text);
  EXPECT_THAT(open().verify().value().problems, IsEmpty());
}

TEST_F(RolloutStoreTest, TwoProcessesWriteAtOnce) {
  const RolloutId id = store_.create(some_rollout()).value();
  constexpr int kEach = 50;
  InChild child([&] {
    RolloutStore own = open_store();
    for (int number = 0; number < kEach; ++number) {
      if (auto added = own.add_event(id, event_of("child")); !added) {
        return added.error().what;
      }
    }
    return std::string("done");
  });
  Step step;
  step.domains = {{0, some_record(DomainState::applying)}};
  for (int number = 0; number < kEach; ++number) {
    ASSERT_TRUE(store_.save(id, step, std::vector{event_of("parent")}));
  }
  EXPECT_EQ(child.wait(), "done");
  EXPECT_EQ(kinds(store_, id).size(), 2U * kEach);
}

TEST_F(RolloutStoreTest, HoldsAHundredThousandDomains) {
  const NewRollout rollout = some_rollout("fix", 100'000);
  ASSERT_TRUE(store_.create(rollout));
  EXPECT_EQ(store_.overlaps(identities(rollout)).value().size(), 100U);
  EXPECT_EQ(store_.load("fix").value().begin.domains.size(), 100'000U);
  EXPECT_EQ(store_.list().value()[0].domains.of(DomainState::waiting), 100'000U);
}

}  // namespace
}  // namespace vpatch::fleet

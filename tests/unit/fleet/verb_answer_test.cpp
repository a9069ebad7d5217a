// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/verb_answer.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using Health = rollout::HealthVerdict::Health;

VerbAnswer answer(const std::string& text) {
  return answer_of(json::parse(text).as_object());
}

GuestLook guest(const std::string& report, int exit_code = 0) {
  return guest_of(
      answer(R"({"exit_code":)" + std::to_string(exit_code) + R"(,"report":)" + report + "}"));
}

TEST(VerbAnswer, TakesOutcomeTextAndReport) {
  const VerbAnswer found =
      answer(R"({"exit_code":5,"report":{"summary":"stalled","x":1},"errors":"e"})");
  EXPECT_EQ(found.outcome, Outcome::stalled_waiting);
  EXPECT_EQ(found.text, "stalled");
  EXPECT_TRUE(found.report.contains("x"));
  EXPECT_FALSE(found.done());
}

TEST(VerbAnswer, UnrecordedIsDone) {
  EXPECT_TRUE(answer(R"({"exit_code":9})").done());
}

TEST(VerbAnswer, ErrorKeepsItsOutcome) {
  const VerbAnswer found = answer_of(fail(Outcome::unreachable, "no answer"));
  EXPECT_EQ(found.outcome, Outcome::unreachable);
  EXPECT_EQ(found.text, "no answer");
}

TEST(VerbAnswer, SaysSomethingInAnyCase) {
  EXPECT_THAT(answer(R"({"exit_code":3})").text, testing::HasSubstr("said nothing"));
}

TEST(VerbAnswer, ChangeWhoseEndWasNotSeenIsUnreachable) {
  EXPECT_EQ(
      outcome_of_change(answer(R"({"exit_code":8,"report":{"findings":[7,{"id":"unseen"}]}})")),
      Outcome::unreachable);
}

TEST(VerbAnswer, ChangeThatFailedKeepsItsOutcome) {
  EXPECT_EQ(outcome_of_change(answer(R"({"exit_code":8,"report":{"findings":[{"id":"other"}]}})")),
            Outcome::failed_needs_look);
  EXPECT_EQ(outcome_of_change(answer(R"({"exit_code":7,"report":{"findings":[{"id":"unseen"}]}})")),
            Outcome::failed_restored);
}

class HostileAnswer : public testing::TestWithParam<std::string> {};

TEST_P(HostileAnswer, IsNoSuccess) {
  const VerbAnswer found = answer(GetParam());
  EXPECT_EQ(found.outcome, Outcome::internal);
  EXPECT_NE(guest_of(found).health, Health::pass);
}

INSTANTIATE_TEST_SUITE_P(All, HostileAnswer,
                         testing::Values("{}", R"({"exit_code":"0"})", R"({"exit_code":0.0})",
                                         R"({"exit_code":null,"report":[]})",
                                         R"({"exit_code":4294967296})", R"({"exit_code":-1})",
                                         R"({"exit_code":[0],"report":{"health":"pass"}})",
                                         R"({"exit_code":18446744073709551615})"));

TEST(VerbAnswer, TextIsCutAndPrintable) {
  const VerbAnswer found =
      answer(R"({"exit_code":3,"errors":"\u001b[2J)" + std::string(5000, 'x') + R"("})");
  EXPECT_LE(found.text.size(), 1000U);
  EXPECT_TRUE(found.text.starts_with("?[2Jx"));
}

TEST(GuestLook, SeesWhatIsInForce) {
  const GuestLook found = guest(
      R"({"health":"pass","state":"running","taint":32768,"boot_id":"b","log_sequence":7,
          "patches":[{"name":"a","build_id":"1","phase":"patched"},
                     {"name":"b","phase":"patched","transition":true}]})");
  EXPECT_EQ(found.health, Health::pass);
  EXPECT_TRUE(found.read);
  EXPECT_FALSE(found.off);
  EXPECT_TRUE(found.busy);
  ASSERT_EQ(found.patches.size(), 2U);
  EXPECT_TRUE(found.patches[0].in_force);
  EXPECT_FALSE(found.patches[1].in_force);
  EXPECT_EQ(found.mark, (HealthMark{.boot_id = "b", .log_sequence = 7, .taint = 32768}));
}

TEST(GuestLook, PassIsNoneWithAnotherExitCode) {
  EXPECT_EQ(guest(R"({"health":"pass"})", 6).health, Health::inconclusive);
  EXPECT_EQ(guest(R"({"health":"fail"})", 8).health, Health::fail);
}

TEST(GuestLook, MemoryThatWasNotReadTellsNothing) {
  EXPECT_FALSE(guest(R"({"health":"pass","taint":null})").read);
}

TEST(GuestLook, WrongTypesAreNotKnown) {
  const GuestLook found = guest(
      R"({"health":1,"state":[],"taint":"0","busy":{},"boot_id":7,"log_sequence":-1,
          "patches":[1,null,[],{"name":5,"phase":true,"transition":"yes"}]})");
  EXPECT_EQ(found.health, Health::inconclusive);
  EXPECT_FALSE(found.read);
  EXPECT_FALSE(found.busy);
  EXPECT_EQ(found.mark, HealthMark());
  ASSERT_EQ(found.patches.size(), 1U);
  EXPECT_EQ(found.patches[0].name, "");
}

TEST(GuestLook, ListsAndNamesAreBounded) {
  std::string list = R"({"name":")" + std::string(100'000, 'n') + R"("})";
  for (int i = 0; i < 5000; ++i) {
    list += R"(,{"name":"x"})";
  }
  const GuestLook found = guest(R"({"patches":[)" + list + "]}");
  EXPECT_LE(found.patches.size(), 256U);
  EXPECT_LE(found.patches.front().name.size(), 128U);
}

TEST(Members, NumbersOfAnyKind) {
  const auto object =
      json::parse(R"({"a":18446744073709551615,"b":-1,"c":1.5,"d":2.0,"e":1e300})").as_object();
  EXPECT_EQ(number_member(object, "a"), 18446744073709551615ULL);
  EXPECT_EQ(number_member(object, "b"), 0U);
  EXPECT_EQ(number_member(object, "c"), 0U);
  EXPECT_EQ(number_member(object, "d"), 2U);
  EXPECT_EQ(number_member(object, "e"), 0U);
}

}  // namespace
}  // namespace vpatch::fleet

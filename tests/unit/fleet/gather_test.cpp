// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/gather.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

using rollout::DomainState;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kRelease = "6.1.0-1";

rollout::Plan plan_of(std::vector<rollout::PlannedFile> files = {{kRelease, "/a.ko"}}) {
  rollout::Plan plan;
  plan.name = "fix";
  plan.files = std::move(files);
  plan.selection.connections = {"qemu:///system"};
  plan.waves.resize(1);
  return plan;
}

ListedDomain domain(const std::string& name, bool running = true) {
  return {.target = {.connection = "qemu:///system",
                     .name = name,
                     .identity = "id-of-" + name,
                     .groups = {},
                     .kernel_release = running ? kRelease : "",
                     .build_id = "",
                     .running = running},
          .last_release = ""};
}

std::vector<LivepatchFile> files(std::size_t count) {
  std::vector<LivepatchFile> all(count);
  for (std::size_t i = 0; i < count; ++i) {
    all[i].name = "patch" + std::to_string(i);
    all[i].sha256 = std::string(64, static_cast<char>('a' + static_cast<char>(i)));
  }
  return all;
}

Result<Gathered> arranged(const rollout::Plan& plan, const std::vector<ListedDomain>& domains) {
  return arrange(plan, files(plan.files.size()), domains, {.seed = "0"});
}

TEST(Arrange, PutsTheCanaryFirst) {
  rollout::Plan plan = plan_of();
  plan.canary.emplace().domains.names = {"web1"};
  const auto gathered = arranged(plan, {domain("web0"), domain("web1"), domain("web2")});
  ASSERT_TRUE(gathered) << gathered.error().what;
  const auto& domains = gathered->rollout.domains;
  ASSERT_THAT(domains, SizeIs(3));
  EXPECT_EQ(domains[0].name, "web1");
  EXPECT_EQ(domains[0].wave, 0U);
  EXPECT_EQ(domains[1].wave, 1U);
  EXPECT_EQ(domains[2].wave, 1U);
  EXPECT_EQ(domains[2].file, 0U);
  EXPECT_FALSE(domains[2].record.touched);
}

TEST(Arrange, DomainThatIsOffGetsTheOnlyFile) {
  const auto gathered = arranged(plan_of(), {domain("web0"), domain("web1", false)});
  ASSERT_TRUE(gathered);
  const RolloutDomain& off = gathered->rollout.domains.back();
  EXPECT_EQ(off.record.state, DomainState::off);
  EXPECT_EQ(off.file, 0U);
  EXPECT_TRUE(off.record.touched) << "a rollback takes its registration back";
}

TEST(Arrange, DomainThatIsOffGetsTheFileOfItsLastKernel) {
  const rollout::Plan plan = plan_of({{kRelease, "/a.ko"}, {"6.12.1", "/b.ko"}});
  ListedDomain known = domain("known", false);
  known.last_release = "6.12.1";
  ListedDomain other = domain("other", false);
  other.last_release = "5.10.0";
  const auto gathered = arranged(plan, {domain("web0"), known, other, domain("fresh", false)});
  ASSERT_TRUE(gathered);
  for (const RolloutDomain& each : gathered->rollout.domains) {
    if (each.name == "known") {
      EXPECT_EQ(each.file, 1U);
    } else if (each.name != "web0") {
      EXPECT_FALSE(each.file) << each.name;
      EXPECT_FALSE(each.record.touched);
    }
  }
}

TEST(Arrange, NothingIsRegisteredWithoutPersist) {
  rollout::Plan plan = plan_of();
  plan.persist = false;
  const auto gathered = arranged(plan, {domain("web0"), domain("web1", false)});
  ASSERT_TRUE(gathered);
  EXPECT_FALSE(gathered->rollout.domains.back().record.touched);
}

TEST(Arrange, DomainOfAnotherKernelIsReported) {
  ListedDomain other = domain("old");
  other.target.kernel_release = "5.10.0";
  const auto gathered = arranged(plan_of(), {domain("web0"), other});
  ASSERT_TRUE(gathered);
  const RolloutDomain& left = gathered->rollout.domains.back();
  EXPECT_EQ(left.record.state, DomainState::unmatched);
  EXPECT_FALSE(left.record.text.empty());
  EXPECT_FALSE(left.file);
}

TEST(Arrange, SecondSightOfADomainIsAWarning) {
  ListedDomain again = domain("web0");
  again.target.connection = "qemu+ssh://h/system";
  again.target.running = false;
  rollout::Plan plan = plan_of();
  plan.selection.connections.push_back(again.target.connection);
  const auto gathered = arranged(plan, {domain("web0"), again});
  ASSERT_TRUE(gathered);
  EXPECT_THAT(gathered->rollout.domains, SizeIs(1));
  EXPECT_THAT(gathered->warnings, ElementsAre(HasSubstr("web0 of qemu+ssh://h/system")));
}

TEST(Arrange, NothingToDoIsRefused) {
  for (const auto& domains : {std::vector<ListedDomain>{}, {domain("web0", false)}}) {
    const auto gathered = arranged(plan_of(), domains);
    ASSERT_FALSE(gathered);
    EXPECT_EQ(gathered.error().outcome, Outcome::refused);
  }
}

std::vector<ListedDomain> listed(const std::string& report) {
  return domains_of(boost::json::parse(report).as_object(), "qemu:///system");
}

TEST(DomainsOf, TakesWhatServeLists) {
  const auto domains = listed(R"({"domains":[{"name":"web0","identity":"id","groups":["a",7,"b"],
      "running":true,"release":"6.1","build_id":null,"last_release":null}]})");
  ASSERT_THAT(domains, SizeIs(1));
  EXPECT_EQ(domains[0].target.name, "web0");
  EXPECT_THAT(domains[0].target.groups, ElementsAre("a", "b"));
  EXPECT_TRUE(domains[0].target.running);
  EXPECT_EQ(domains[0].target.kernel_release, "6.1");
}

TEST(DomainsOf, LeavesOutWhatIsNoDomain) {
  EXPECT_THAT(listed("{}"), IsEmpty());
  EXPECT_THAT(listed(R"({"domains":{}})"), IsEmpty());
  EXPECT_THAT(listed(R"({"domains":[1,null,"web0",[],{},{"name":"a"},{"identity":"b"},
      {"name":["a"],"identity":"b"}]})"),
              IsEmpty());
}

TEST(DomainsOf, LeavesOutNamesThatAreTooLong) {
  EXPECT_THAT(listed(R"({"domains":[{"identity":"i","name":")" + std::string(300, 'x') + R"("},
      {"name":"n","identity":")" +
                     std::string(300, 'x') + R"("}]})"),
              IsEmpty());
}

// With hosts.

TEST(Gather, FileForAnotherKernelOrNoneIsRefused) {
  const auto gathered = gather(plan_of({{kRelease, "/no/such/file.ko"}}), {});
  ASSERT_FALSE(gathered);
  EXPECT_THAT(gathered.error().what, HasSubstr("/no/such/file.ko"));
}

TEST(Gather, HostThatDoesNotAnswerIsNamed) {
  rollout::Plan plan = plan_of({});
  const auto gathered = gather(plan, {.vpatch = "/bin/false", .version = "1"});
  ASSERT_FALSE(gathered);
  EXPECT_EQ(gathered.error().outcome, Outcome::unreachable);
  EXPECT_THAT(gathered.error().what, HasSubstr("qemu:///system"));
}

TEST(Gather, InterruptLeavesHostsThatAreBeingAsked) {
  std::stop_source stop;
  const auto gathered =
      gather(plan_of({}), {.vpatch = "/bin/cat",
                           .version = "1",
                           .stop = stop.get_token(),
                           .progress = [&](const auto&) { stop.request_stop(); }});
  ASSERT_FALSE(gathered);
  EXPECT_EQ(gathered.error().outcome, Outcome::refused);
}

TEST(Gather, WrongConnectionAfterOthersIsAnError) {
  rollout::Plan plan = plan_of({});
  plan.selection.connections = {"qemu:///system", "xen:///system"};
  const auto gathered = gather(plan, {.vpatch = "/bin/cat", .version = "1"});
  ASSERT_FALSE(gathered);
  EXPECT_EQ(gathered.error().outcome, Outcome::usage);
}

}  // namespace
}  // namespace vpatch::fleet

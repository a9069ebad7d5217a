// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/page.h"

#include <algorithm>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/exporter/some_page.h"

namespace vpatch::exporter {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::map<std::string, std::string> kWeb01 = {{"connection", "qemu:///system"},
                                                   {"domain", "web01"}};

TEST(Page, TellsOfADomain) {
  SomePage some;
  some.web01().look.transition_running = true;
  some.web01().look.pending = 3;
  some.web01().look.reboot_planned = true;
  const Exposition page = some.parse();
  EXPECT_EQ(page.value("vpatch_domain_up", kWeb01), 1);
  EXPECT_EQ(page.value("vpatch_domain_transition_running", kWeb01), 1);
  EXPECT_EQ(page.value("vpatch_domain_pending_tasks", kWeb01), 3);
  EXPECT_EQ(page.value("vpatch_domain_reboot_planned", kWeb01), 1);
  EXPECT_EQ(page.value("vpatch_domain_tainted", kWeb01), 4096);
  EXPECT_EQ(page.value("vpatch_domain_last_look_timestamp_seconds", kWeb01), 1795262400);
  EXPECT_EQ(page.value("vpatch_last_transition_seconds", kWeb01), 0.015);
  EXPECT_EQ(page.value("vpatch_last_pause_seconds", kWeb01), 0.0037);
  auto labels = kWeb01;
  labels["patch"] = "fix_pipe";
  labels["role"] = "base";
  labels["build_id"] = "beef";
  EXPECT_EQ(page.value("vpatch_livepatch_info", labels), 1);
}

TEST(Page, IsAsPrometheusWritesIt) {
  const std::string text = render(SomePage().metrics());
  EXPECT_THAT(text,
              HasSubstr("# HELP vpatch_domain_up Whether the last look could read the guest's "
                        "memory.\n"
                        "# TYPE vpatch_domain_up gauge\n"
                        "vpatch_domain_up{connection=\"qemu:///system\",domain=\"web01\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nvpatch_operations_total{verb=\"apply\",outcome=\"done\"} 1\n"));
}

TEST(Page, TellsOnlyThatADomainIsDownWhenItIs) {
  SomePage some;
  some.web01().up = false;
  const Exposition page = some.parse();
  EXPECT_EQ(page.value("vpatch_domain_up", kWeb01), 0);
  EXPECT_EQ(page.value("vpatch_domain_last_look_timestamp_seconds", kWeb01), 1795262400);
  for (const char* name :
       {"vpatch_livepatch_info", "vpatch_domain_transition_running", "vpatch_domain_pending_tasks",
        "vpatch_domain_reboot_planned", "vpatch_domain_tainted"}) {
    EXPECT_THAT(page.of(name), IsEmpty()) << name;
  }
}

TEST(Page, DoesNotKnowADomainBeforeItsFirstLook) {
  SomePage some;
  some.web01() = {.name = "web01"};
  EXPECT_THAT(some.parse().of("vpatch_domain_up"), IsEmpty());
}

TEST(Page, HasNoSeriesOfADomainThatIsGone) {
  SomePage some;
  some.domains.clear();
  for (const Sample& sample : some.parse().samples) {
    EXPECT_FALSE(sample.labels.contains("domain")) << sample.name;
  }
}

TEST(Page, LeavesOutPendingTasksThatCouldNotBeRead) {
  SomePage some;
  some.web01().look.pending.reset();
  EXPECT_THAT(some.parse().of("vpatch_domain_pending_tasks"), IsEmpty());
}

TEST(Page, EscapesNames) {
  SomePage some;
  const std::string hostile = "a\"b\\c\nvpatch_domain_up{} 0\n# TYPE x \xc3\xa9{},=";
  some.web01().name = hostile;
  some.web01().look.in_force = {{hostile, "base", ""}};
  some.rollouts.front().name = hostile;
  const Exposition page = some.parse();
  ASSERT_THAT(page.of("vpatch_livepatch_info"), SizeIs(1));
  EXPECT_EQ(page.of("vpatch_livepatch_info").front().labels.at("patch"), hostile);
  EXPECT_FALSE(page.of("vpatch_livepatch_info").front().labels.contains("build_id"));
  EXPECT_EQ(page.of("vpatch_domain_up").front().labels.at("domain"), hostile);
  EXPECT_THAT(page.of("vpatch_rollout_wave"), SizeIs(1));
}

TEST(Page, HasASeriesOnceThoughTwoDomainsLookAlike) {
  SomePage some;
  some.domains[{"qemu:///system", "uuid-2"}] = some.web01();
  EXPECT_THAT(some.parse().of("vpatch_domain_up"), SizeIs(1));
}

TEST(Page, TellsOfARollout) {
  const Exposition page = SomePage().parse();
  const std::map<std::string, std::string> rollout = {{"rollout", "cve-2026-1234"}};
  EXPECT_EQ(page.value("vpatch_rollout_wave", rollout), 2);
  EXPECT_EQ(page.value("vpatch_rollout_paused", rollout), 1);
  EXPECT_EQ(page.value("vpatch_rollout_finished", rollout), 0);
  EXPECT_EQ(page.value("vpatch_rollout_started_timestamp_seconds", rollout), 1795254083.5);
  EXPECT_THAT(page.of("vpatch_rollout_domains"), SizeIs(rollout::kDomainStates));
  EXPECT_EQ(page.value("vpatch_rollout_domains", {{"state", "done"}}), 2);
  EXPECT_EQ(page.value("vpatch_rollout_domains", {{"state", "left-alone"}}), 1);
  EXPECT_EQ(page.value("vpatch_rollout_domains", {{"state", "failed"}}), 0);
}

TEST(Page, KeepsARolloutForADayAfterItsEnd) {
  SomePage some;
  some.rollouts.front().record.finished = true;
  some.rollouts.front().ended_at = "2026-11-20T12:00:01.000000Z";
  EXPECT_EQ(some.parse().value("vpatch_rollout_finished", {}), 1);
  some.rollouts.front().ended_at = "2026-11-20T12:00:00.000000Z";
  EXPECT_THAT(some.parse().of("vpatch_rollout_finished"), IsEmpty());
}

TEST(Page, HasCumulativeHistograms) {
  SomePage some;
  StoredOperation slow = some_operation(2, "apply", Outcome::stalled_reverted);
  slow.end = OperationEnd{.outcome = Outcome::stalled_reverted, .transition_us = 60'000'001};
  some.figures.add(slow);
  const Exposition page = some.parse();
  const auto bucket = [&](const char* bound) {
    return page.value("vpatch_transition_seconds_bucket", {{"verb", "apply"}, {"le", bound}});
  };
  EXPECT_EQ(bucket("0.01"), 0);
  EXPECT_EQ(bucket("0.025"), 1);
  EXPECT_EQ(bucket("60"), 1);
  EXPECT_EQ(bucket("+Inf"), 2);
  EXPECT_EQ(page.value("vpatch_transition_seconds_count", {{"verb", "apply"}}), 2);
  EXPECT_NEAR(page.value("vpatch_transition_seconds_sum", {{"verb", "apply"}}), 60.015001, 1e-9);
}

TEST(Page, CountsNothingBeforeTheJournalWasRead) {
  SomePage some;
  some.journal_was_read = false;
  const Exposition page = some.parse();
  EXPECT_TRUE(page.types.contains("vpatch_operations_total"));
  for (const char* name : {"vpatch_operations_total", "vpatch_transition_seconds_count",
                           "vpatch_last_transition_seconds"}) {
    EXPECT_THAT(page.of(name), IsEmpty()) << name;
  }
}

TEST(Page, KeepsPrometheusConventions) {
  const Exposition page = SomePage().parse();
  for (const auto& [name, type] : page.types) {
    EXPECT_TRUE(name.starts_with("vpatch_")) << name;
    EXPECT_EQ(type == "counter", name.ends_with("_total")) << name;
    EXPECT_EQ(type == "histogram" && !name.ends_with("_seconds"), false) << name;
    EXPECT_TRUE(page.helps.contains(name)) << name;
    for (const char* unit : {"_ms", "_us", "_milliseconds", "_percent", "_minutes"}) {
      EXPECT_FALSE(name.ends_with(unit)) << name;
    }
  }
  for (const Sample& sample : page.samples) {
    if (sample.name.ends_with("_info")) {
      EXPECT_EQ(sample.value, 1) << sample.name;
    }
  }
  EXPECT_EQ(page.value("vpatch_build_info", {{"version", "1.2.3"}}), 1);
  EXPECT_EQ(page.value("vpatch_exporter_errors_total", {{"source", "list"}}), 2);
}

}  // namespace
}  // namespace vpatch::exporter

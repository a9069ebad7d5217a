// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/rollout_report.h"

#include <algorithm>
#include <chrono>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/markup.h"
#include "tests/unit/fleet/sample_rollout.h"
#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/rollout_words.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

std::string page_of(const SampleRollout& sample) {
  return report_page(sample.rollout, sample.events, sample.now);
}

/// What may be in any text from outside.
constexpr std::string_view kHostile =
    "</pre></style><script>alert(1)</script>\"' onload=\"x\" &amp;<img src=x>\n\r\t\x1b[31m\x01"
    "\xff\xfe\xc3\x28\xed\xa0\x80\xe2\x80\xae\xef\xbf\xbf]]>";

json::object hostile_report() {
  const json::array texts = {kHostile, kHostile};
  return {{"verb", kHostile},
          {"outcome", kHostile},
          {"exit_code", 4},
          {"summary", kHostile},
          {"hint", kHostile},
          {"findings",
           json::array{json::object{
               {"severity", kHostile}, {"id", kHostile}, {"text", kHostile}, {"hint", kHostile}}}},
          {"checks", json::array{json::object{{"id", kHostile}, {"health", kHostile}}}},
          {"kernel_log", texts},
          {"text", kHostile},
          {"command", json::object{{"output", kHostile}}},
          {"blockers", json::object{{"count", 7},
                                    {"tasks", json::array{json::object{{"tid", kHostile},
                                                                       {"name", kHostile},
                                                                       {"state", kHostile},
                                                                       {"why", kHostile},
                                                                       {"stack", texts}}}}}}};
}

/// Every text is hostile.
SampleRollout hostile_rollout() {
  SampleRollout sample = sample_rollout(30, SampleEnd::paused);
  StoredRollout& rollout = sample.rollout;
  const std::string text(kHostile);
  rollout.user = rollout.record.text = rollout.begin.name = rollout.begin.plan =
      rollout.begin.vpatch_version = text;
  for (RolloutFile& file : rollout.begin.files) {
    file = {text, text, text, text, text};
  }
  for (RolloutDomain& domain : rollout.begin.domains) {
    domain.connection = domain.name = domain.identity = domain.release = domain.record.text = text;
    domain.apply_report = domain.revert_report = domain.health_report = hostile_report();
  }
  for (RolloutEvent& event : sample.events) {
    event.text = text;
  }
  sample.events.push_back({text, std::nullopt, text, text});
  return sample;
}

class AnyEnd : public testing::TestWithParam<SampleEnd> {};

TEST_P(AnyEnd, IsWellFormed) {
  EXPECT_EQ(read_markup(page_of(sample_rollout(60, GetParam()))).error, "");
}

TEST_P(AnyEnd, IsWellFormedWithMoreDomainsThanRows) {
  EXPECT_EQ(read_markup(page_of(sample_rollout(2500, GetParam()))).error, "");
}

INSTANTIATE_TEST_SUITE_P(ReportPage, AnyEnd,
                         testing::Values(SampleEnd::done, SampleEnd::paused,
                                         SampleEnd::rolled_back));

TEST(ReportPage, IsWellFormedWithoutDomainsAndEvents) {
  SampleRollout sample;
  EXPECT_EQ(read_markup(page_of(sample)).error, "");
}

TEST(ReportPage, HasHostileTextAsTextOnly) {
  const std::string page = page_of(hostile_rollout());
  const Markup markup = read_markup(page);
  EXPECT_EQ(markup.error, "");
  EXPECT_THAT(markup.elements, Not(testing::Contains("script")));
  EXPECT_THAT(markup.elements, Not(testing::Contains("img")));
  EXPECT_THAT(markup.text, HasSubstr("<script>alert(1)</script>"));
  for (const Markup::Attribute& attribute : markup.attributes) {
    EXPECT_FALSE(attribute.name.starts_with("on")) << attribute.name;
  }
}

TEST(ReportPage, IsValidUtf8WithoutWhatTurnsText) {
  const std::string page = page_of(hostile_rollout());
  for (const char* bytes :
       {"\xff", "\xfe", "\xed\xa0\x80", "\xe2\x80\xae", "\xef\xbf\xbf", "\x1b"}) {
    EXPECT_THAT(page, Not(HasSubstr(bytes)));
  }
}

TEST(ReportPage, LoadsNothing) {
  const Markup markup = read_markup(page_of(sample_rollout(60, SampleEnd::rolled_back)));
  for (const char* element : {"script", "img", "link", "iframe", "object", "base", "form"}) {
    EXPECT_THAT(markup.elements, Not(testing::Contains(element)));
  }
  for (const Markup::Attribute& attribute : markup.attributes) {
    if (attribute.name == "href") {
      EXPECT_TRUE(attribute.value.starts_with('#')) << attribute.value;
    }
    EXPECT_NE(attribute.name, "src");
    EXPECT_NE(attribute.name, "style");  // the policy forbids it
  }
}

TEST(ReportPage, ForbidsAllLoadsAndForeignStyles) {
  const Markup markup = read_markup(page_of(sample_rollout(2, SampleEnd::done)));
  const auto policy = std::ranges::find_if(markup.attributes, [](const auto& attribute) {
    return attribute.name == "content" && attribute.value.contains("default-src");
  });
  ASSERT_NE(policy, markup.attributes.end());
  EXPECT_THAT(policy->value, HasSubstr("default-src 'none'; style-src 'sha256-"));
  EXPECT_THAT(policy->value, Not(HasSubstr("unsafe")));
}

TEST(ReportPage, SaysTheOutcomeInOneSentence) {
  EXPECT_THAT(page_of(sample_rollout(60, SampleEnd::rolled_back)),
              HasSubstr("Rolled back because "));
  EXPECT_THAT(page_of(sample_rollout(60, SampleEnd::paused)),
              HasSubstr("failed and spent the failure budget: "));
}

TEST(ReportPage, TellsFailuresWithStackAndLog) {
  const Markup markup = read_markup(page_of(sample_rollout(60, SampleEnd::rolled_back)));
  EXPECT_THAT(markup.text, HasSubstr("n_tty_read+0x4b8/0x710\n"));
  EXPECT_THAT(markup.text, HasSubstr("WARNING: CPU: 1 PID: 977"));
  EXPECT_THAT(markup.text, HasSubstr("curl: (22) error: 500"));
  EXPECT_THAT(markup.text, HasSubstr("try again with --when-clear"));
  EXPECT_THAT(markup.text, HasSubstr("... and 7 more"));
}

TEST(ReportPage, CountsTheDomainsThatALongTableLeavesOut) {
  SampleRollout sample = sample_rollout(2500, SampleEnd::done);
  const auto patched = static_cast<std::size_t>(std::ranges::count_if(
      sample.rollout.begin.domains,
      [](const RolloutDomain& domain) { return group_of(domain.record.state) == Group::patched; }));
  EXPECT_THAT(page_of(sample), HasSubstr(fmt::format("{} of 2500 domains: those that are not done",
                                                     2500 - patched)));
}

TEST(ReportPage, KeepsKernelsApart) {
  const Markup markup = read_markup(page_of(sample_rollout(60, SampleEnd::done)));
  EXPECT_THAT(markup.text, HasSubstr("Transition times with kernel 6.1.0-56-cloud-amd64"));
  EXPECT_THAT(markup.text, HasSubstr("Transition times with kernel 6.12.12+bpo-cloud-amd64"));
}

TEST(ReportPage, IsLinearAndOfAFewMegabytes) {
  const SampleRollout small = sample_rollout(10'000, SampleEnd::done);
  const SampleRollout large = sample_rollout(100'000, SampleEnd::done);
  const auto time = [](const SampleRollout& sample, std::string& page) {
    const auto begin = std::chrono::steady_clock::now();
    page = page_of(sample);
    return std::chrono::steady_clock::now() - begin;
  };
  std::string page;
  const auto least = time(small, page);
  const auto most = time(large, page);
  EXPECT_LT(page.size(), std::size_t{4} << 20U);
  EXPECT_LT(most, 40 * least);  // ten times as many: a square would be a hundred
}

TEST(ReportJson, CountsAndListsAll) {
  const SampleRollout sample = sample_rollout(60, SampleEnd::rolled_back);
  const json::object report = to_json(sample.rollout, sample.events, "rollout report");
  EXPECT_EQ(report.at("domains").as_array().size(), 60);
  EXPECT_EQ(report.at("timeline").as_array().size(), sample.events.size());
  EXPECT_EQ(report.at("course"), "back");
  std::uint64_t sum = 0;
  for (const auto& [state, count] : report.at("counts").as_object()) {
    sum += count.to_number<std::uint64_t>();
  }
  EXPECT_EQ(sum, 60);
}

TEST(ReportJson, HasADomainsTimesAndBlockers) {
  const SampleRollout sample = sample_rollout(60, SampleEnd::paused);
  const json::object report = to_json(sample.rollout, sample.events, "rollout report");
  bool seen = false;
  for (const json::value& domain : report.at("domains").as_array()) {
    if (domain.at("outcome") == "stalled-reverted") {
      seen = true;
      EXPECT_EQ(domain.at("blockers").at("count"), 9);
      EXPECT_EQ(domain.at("kernel_log").as_array().size(), 3);
    }
  }
  EXPECT_TRUE(seen);
}

TEST(ReportJson, IsPrintable) {
  const SampleRollout sample = hostile_rollout();
  const std::string text =
      json::serialize(to_json(sample.rollout, sample.events, "rollout report"));
  EXPECT_THAT(text, Not(HasSubstr("\\u00")));
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
  EXPECT_TRUE(json::parse(text).is_object());
}

TEST(PageText, CutsOnlyWholeCharacters) {
  EXPECT_EQ(page_text("a\xc3\xa9"
                      "b",
                      2),
            "a");
  EXPECT_EQ(page_text("<", 1), "&lt;");
}

}  // namespace
}  // namespace vpatch::fleet

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/rollout_view.h"

#include <regex>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/sample_rollout.h"
#include "vmm-agent/fleet/rollout_words.h"
#include "vmm-agent/fleet/view_text.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

std::string view_of(const SampleRollout& sample, const ViewSize& size) {
  return render_rollout(sample.rollout, summary_of(sample.rollout), sample.doing, sample.now, size);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  EXPECT_EQ(begin, text.size()) << "the last line has no end";
  return lines;
}

void expect_fits(const SampleRollout& sample) {
  for (std::size_t width = 20; width <= 200; ++width) {
    for (std::size_t height = 5; height <= 60; height += width % 3 + 1) {
      const std::vector<std::string> lines = lines_of(view_of(sample, {width, height, false}));
      ASSERT_LE(lines.size(), height) << width;
      for (const std::string& line : lines) {
        ASSERT_LE(columns_of(line), width) << line;
      }
    }
  }
}

TEST(RenderRollout, NeverExceedsTheTerminal) {
  expect_fits(sample_rollout(60, SampleEnd::paused));
  expect_fits(sample_rollout(60, SampleEnd::rolled_back));
  expect_fits(sample_rollout(3, SampleEnd::done));
  expect_fits(sample_rollout(0, SampleEnd::done));
}

TEST(RenderRollout, NeverExceedsItWithWideAndHostileNames) {
  SampleRollout sample = sample_rollout(60, SampleEnd::paused);
  for (RolloutDomain& domain : sample.rollout.begin.domains) {
    domain.name =
        "\xe6\x9c\x8d\xe5\x8b\x99\xe5\x99\xa8\xf0\x9f\x90\xa7\x1b[2J\xff-long-long-long-name";
    domain.record.text = domain.name + domain.name;
  }
  expect_fits(sample);
}

TEST(RenderRollout, NeverExceedsAHundredWaves) {
  SampleRollout sample = sample_rollout(200, SampleEnd::paused);
  for (std::size_t id = 0; id < 200; ++id) {
    sample.rollout.begin.domains[id].wave = static_cast<std::uint32_t>(id / 2);
  }
  sample.rollout.record.wave = 42;
  expect_fits(sample);
  EXPECT_THAT(view_of(sample, {80, 24, false}), HasSubstr(">wave 42"));
}

TEST(RenderRollout, ShowsTheSameWithAndWithoutColours) {
  const SampleRollout sample = sample_rollout(60, SampleEnd::paused);
  const std::string colored = view_of(sample, {100, 40, true});
  EXPECT_THAT(colored, HasSubstr("\033["));
  EXPECT_EQ(std::regex_replace(colored, std::regex("\033\\[[0-9;]*m"), ""),
            view_of(sample, {100, 40, false}));
}

TEST(RenderRollout, HasNothingThatATerminalObeys) {
  SampleRollout sample = sample_rollout(60, SampleEnd::paused);
  for (auto& [id, text] : sample.doing) {
    text = "\033]0;title\a\r\xc2\x9b";
  }
  const std::string view = view_of(sample, {100, 40, false});
  EXPECT_THAT(view, Not(HasSubstr("\033")));
  EXPECT_THAT(view, Not(HasSubstr("\a")));
  EXPECT_THAT(view, Not(HasSubstr("\r")));
  EXPECT_THAT(view, Not(HasSubstr("\xc2\x9b")));
}

TEST(RenderRollout, SaysWhyItIsPausedAndWhatIsLeftOut) {
  const std::string view = view_of(sample_rollout(60, SampleEnd::paused), {80, 16, false});
  EXPECT_THAT(view, HasSubstr("paused"));
  EXPECT_THAT(view, HasSubstr("spent the failure budget"));
  EXPECT_THAT(view, HasSubstr("... and "));
}

TEST(RenderRollout, PutsWhatIsInDoubtFirst) {
  const std::string view = view_of(sample_rollout(60, SampleEnd::paused), {80, 24, false});
  EXPECT_LT(view.find("unknown "), view.find("applying "));
}

TEST(RenderRollout, ShowsWhatVerbsSay) {
  const std::string view = view_of(sample_rollout(60, SampleEnd::paused), {120, 40, false});
  EXPECT_THAT(view, HasSubstr("tasks pending, kworker/"));
}

TEST(RenderRollout, ShowsFailuresAlsoWhenMuchIsAtWork) {
  const std::string view = view_of(sample_rollout(60, SampleEnd::paused), {100, 18, false});
  EXPECT_THAT(view, HasSubstr("\nfailed: "));
}

TEST(PlainLine, TellsTheTimesOfWhatWasPatched) {
  const SampleRollout sample = sample_rollout(20, SampleEnd::done);
  const std::string line =
      plain_line(sample.rollout, {"2026-11-21T21:00:26.250000Z", rollout::DomainId{0}, "done", ""});
  EXPECT_THAT(line, testing::MatchesRegex("2026-11-21 21:00:26 web00: done, transition .* ms, "
                                          "pause .* ms\n"));
}

TEST(PlainLine, IsOneLine) {
  const SampleRollout sample = sample_rollout(20, SampleEnd::done);
  const std::string line = plain_line(
      sample.rollout, {"2026-11-21T21:00:26.250000Z", std::nullopt, "paused", "a\nb\033"});
  EXPECT_EQ(line, "2026-11-21 21:00:26 cve-2026-1234: paused: a?b?\n");
}

TEST(PlainLine, TakesAnEventOfADomainThatIsNotThere) {
  const SampleRollout sample = sample_rollout(2, SampleEnd::done);
  EXPECT_THAT(plain_line(sample.rollout, {"no time", rollout::DomainId{99}, "done", ""}),
              HasSubstr("no time"));
}

TEST(JsonEvent, HasBlockersWhereAnApplyFailed) {
  const SampleRollout sample = sample_rollout(60, SampleEnd::paused);
  bool seen = false;
  for (const RolloutEvent& event : sample.events) {
    const json::object object = json_event(sample.rollout, event);
    EXPECT_EQ(object.at("at"), json::value(event.at));
    if (event.kind == "failed" && object.at("outcome") == "stalled-reverted") {
      seen = true;
      EXPECT_EQ(object.at("blockers").at("count"), 9);
    }
  }
  EXPECT_TRUE(seen);
}

TEST(JsonEvent, HasNoDomainForTheRolloutItself) {
  const SampleRollout sample = sample_rollout(2, SampleEnd::done);
  const json::object object =
      json_event(sample.rollout, {"2026-11-21T21:00:26.250000Z", std::nullopt, "paused", "root"});
  EXPECT_TRUE(object.at("domain").is_null());
  EXPECT_EQ(object.at("text"), "root");
}

TEST(CutTo, CountsWideCharactersTwice) {
  EXPECT_EQ(columns_of("\xe6\x9c\x8d"), 2);
  EXPECT_EQ(cut_to("\xe6\x9c\x8d\xe6\x9c\x8d\xe6\x9c\x8d", 5), "\xe6\x9c\x8d...");
  EXPECT_EQ(cut_to("abcdef", 5), "ab...");
  EXPECT_EQ(cut_to("abcdef", 2), "..");
}

}  // namespace
}  // namespace vpatch::fleet

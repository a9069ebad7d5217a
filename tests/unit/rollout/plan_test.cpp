// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/plan.h"

#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/rollout/whole_plan.h"
#include "vmm-agent/cli/options.h"

namespace vpatch::rollout {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

constexpr const char* kLeast = R"(name: fix-1
files: [{kernel: 6.1.0-56, file: fix.ko}]
connections: ["qemu:///system"]
)";

Result<Plan> parse(const std::string& yaml) {
  return parse_plan(yaml, "/plans");
}

/// The least plan with more lines, the first of which is line 4.
Result<Plan> with(const std::string& lines) {
  return parse(kLeast + lines);
}

std::string error_of(const Result<Plan>& plan) {
  if (plan) {
    return "no error";
  }
  EXPECT_EQ(plan.error().outcome, Outcome::usage);
  return plan.error().what;
}

TEST(Amount, OfDomainsIsNeverMoreThanThereAre) {
  EXPECT_EQ((Amount{5}.of(10)), 5U);
  EXPECT_EQ((Amount{5}.of(3)), 3U);
  EXPECT_EQ((Amount{0}.of(3)), 0U);
}

TEST(Amount, OfPercentIsRoundedUp) {
  const auto percent = [](std::uint32_t value, std::uint64_t all) {
    return Amount{value, Amount::Unit::percent}.of(all);
  };
  EXPECT_EQ(percent(10, 100), 10U);
  EXPECT_EQ(percent(10, 101), 11U);
  EXPECT_EQ(percent(1, 1), 1U);
  EXPECT_EQ(percent(0, 1000), 0U);
  EXPECT_EQ(percent(100, 7), 7U);
  EXPECT_EQ(percent(50, 0), 0U);
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(percent(100, kMost), kMost);
  EXPECT_EQ(percent(50, kMost), kMost / 2 + 1);
}

TEST(ParsePlan, TakesTheLeastPlanWithItsDefaults) {
  const auto plan = parse(kLeast);
  ASSERT_TRUE(plan) << plan.error().what;
  Plan expected;
  expected.name = "fix-1";
  expected.files = {{"6.1.0-56", "/plans/fix.ko"}};
  expected.selection.connections = {"qemu:///system"};
  expected.waves = {Wave{}};
  EXPECT_EQ(*plan, expected);
}

TEST(ParsePlan, TakesEachKey) {
  const auto parsed = parse(kWholePlan);
  ASSERT_TRUE(parsed) << parsed.error().what;
  Plan plan;
  plan.name = "cve-2026-1234";
  plan.files = {{"6.1.0-56-cloud-amd64", "/plans/fix-6.1.ko"},
                {"0123456789abcdef0123456789abcdef01234567", "/srv/fix-6.12.ko"}};
  plan.selection = {
      {"qemu+ssh://a/system", "qemu+ssh://b/system"}, {"web*", "mail"}, {"front"}, {"*-test"}};
  plan.canary = Canary{{{}, {"web01"}, {"canary"}, {}}, std::nullopt, 30min};
  plan.waves = {{{5, Amount::Unit::domains}, 10min},
                {{10, Amount::Unit::percent}, 0s},
                {{100, Amount::Unit::percent}, 1h}};
  plan.limits = {16, 3, {2, Amount::Unit::percent}, 15min, 2h};
  plan.healthy_for = 90s;
  plan.checks = {{"http", {"curl", "-f", "http://localhost/"}, true, 10s},
                 {"script", {"sh", "-c", "true\nexit 0\n", ""}, false, 30s}};
  plan.on_failure = OnFailure::rollback;
  plan.on_overlap = OnOverlap::queue;
  plan.window =
      MaintenanceWindow{std::bitset<7>(0b0000111), 22h, 4h + 30min, 30min, "Europe/Berlin"};
  plan.persist = false;
  plan.apply_options = {"--timeout=2m",
                        "--on-stall=wait",
                        "--assist=kick",
                        "--signal-after=20ms",
                        "--max-pause=5ms",
                        "--when-clear=1m",
                        "--quiesce=do_exit,nf_tables:nft_do_chain",
                        "--allow-stacking",
                        "--require-signed",
                        "--settle=5s"};
  EXPECT_EQ(*parsed, plan) << to_yaml(*parsed);
  EXPECT_THAT(parsed->apply_options, testing::ElementsAreArray(plan.apply_options));
}

TEST(ParsePlan, TakesACanaryAmount) {
  EXPECT_EQ(with("canary: {amount: 3, soak: 0}")->canary, (Canary{{}, Amount{3}, 0s}));
}

TEST(ParsePlan, TakesAWindowOfEveryDayInUtcUnlessTold) {
  EXPECT_EQ(with("window: {from: 22:00, to: 22:00}")->window,
            (MaintenanceWindow{std::bitset<7>(0x7F), 22h, 22h, 0min, "UTC"}));
}

struct Wrong {
  const char* lines;  ///< from line 4 on
  const char* error;
};

class WrongPlan : public testing::TestWithParam<Wrong> {};

TEST_P(WrongPlan, IsRefusedWithPlaceAndWhatIsAllowed) {
  EXPECT_THAT(error_of(with(GetParam().lines)), HasSubstr(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Keys, WrongPlan,
    testing::Values(
        Wrong{"wave: []", "line 4, column 1: unknown key wave; allowed here are name, files, "},
        Wrong{"persist: true\npersist: true", "line 5, column 1: the key persist is there twice"},
        Wrong{"name: other", "line 4, column 1: the key name is there twice"},
        Wrong{"Persist: true", "line 4, column 1: unknown key Persist"},
        Wrong{"? [a]\n: b", "line 4, column 3: unknown key"},
        Wrong{"<<: {persist: true}", "line 4, column 1: unknown key <<"},
        Wrong{"canary:\n  amount: 1\n  except: [a]",
              "line 6, column 3: unknown key except; "
              "allowed here are names, groups, amount, soak"},
        Wrong{"domains: {name: [a]}",
              "line 4, column 11: unknown key name; allowed here are "
              "names, groups, except"},
        Wrong{"waves: [{count: 1}]",
              "line 4, column 10: unknown key count; allowed here are "
              "amount, soak"},
        Wrong{"limits: {serial: 1}",
              "allowed here are parallel, parallel_per_connection, budget, "
              "per_domain, progress"},
        Wrong{"checks: [{name: a, command: [b], host: c}]",
              "allowed here are name, command, "
              "where, timeout"},
        Wrong{"window: {from: 10:00, to: 11:00, day: mon}",
              "allowed here are days, from, to, "
              "zone, cutoff"},
        Wrong{"apply: {dry-run: true}",
              "line 4, column 9: unknown key dry-run; allowed here are "
              "timeout, grace"},
        Wrong{"apply: {persist: true}", "unknown key persist"},
        Wrong{"apply: {timeout: 5s, timeout: 6s}",
              "line 4, column 22: the key timeout is there "
              "twice"},
        Wrong{"checks: [{name: a}]", "line 4, column 10: the key command is missing"},
        Wrong{"window: {from: 10:00}", "line 4, column 9: the key to is missing"}));

INSTANTIATE_TEST_SUITE_P(
    Types, WrongPlan,
    testing::Values(
        Wrong{"waves: 5", "line 4, column 8: it must be a list of 1 to 100 values"},
        Wrong{"waves: []", "line 4, column 8: it must be a list of 1 to 100 values"},
        Wrong{"waves: [5]", "line 4, column 9: it must be a map with the keys amount, soak"},
        Wrong{"limits: [parallel]", "line 4, column 9: it must be a map"},
        Wrong{"limits:", "line 4, column 1: it must be a map"},
        Wrong{"persist: [true]", "line 4, column 10: it must be one value"},
        Wrong{"persist: yes", "line 4, column 10: yes is not one of true, false"},
        Wrong{"persist:", "it must be one value"},
        Wrong{"domains: {names: web}", "line 4, column 18: it must be a list of 1 to 10000"},
        Wrong{"domains: {names: [a, [b]]}", "line 4, column 22: it must be one value"},
        Wrong{"domains: {groups: [~]}", "line 4, column 20: it must be one value"},
        Wrong{"checks: [{name: a, command: true}]", "it must be a list of 1 to 256 values"},
        Wrong{"checks: [{name: a, command: [[x]]}]", "it must be UTF-8"},
        Wrong{"healthy_for: soon", "line 4, column 14: soon is not a duration"},
        Wrong{"limits: {parallel: many}", "many is not a whole number from 1 to 10000"},
        Wrong{"limits: {parallel: 1.5}", "1.5 is not a whole number"},
        Wrong{"limits: {budget: few}", "few is neither a number of domains from 0"},
        Wrong{"apply: {cert: [key.pem]}", "cert"},
        Wrong{"apply: {quiesce: [\"a,b\"]}", "a,b must be the name of a function"},
        Wrong{"apply: {allow-stacking: 1}", "1 is not one of true, false"}));

INSTANTIATE_TEST_SUITE_P(
    Ranges, WrongPlan,
    testing::Values(
        Wrong{"limits: {parallel: 0}",
              "line 4, column 20: 0 is not a whole number from 1 to 10000"},
        Wrong{"limits: {parallel: 10001}", "10001 is not a whole number from 1 to 10000"},
        Wrong{"limits: {parallel_per_connection: -1}", "-1 is not a whole number from 1"},
        Wrong{"limits: {parallel: 4294967297}", "4294967297 is not a whole number"},
        Wrong{"limits: {budget: 101%}", "101% is neither"},
        Wrong{"limits: {budget: -1}", "-1 is neither"},
        Wrong{"limits: {budget: 5 %}", "5 % is neither"},
        Wrong{"limits: {per_domain: 0s}", "0s is not from 1s to 24h"},
        Wrong{"limits: {per_domain: 25h}", "25h is not from 1s to 24h"},
        Wrong{"limits: {per_domain: 1.5s}", "it must be whole seconds"},
        Wrong{"limits: {progress: 721h}", "721h is not from 1s to 720h"},
        Wrong{"healthy_for: -1s", "-1s is not from 0s to 24h"},
        Wrong{"waves: [{amount: 0}]", "line 4, column 18: 0 is neither a number of domains from 1"},
        Wrong{"waves: [{amount: 0%}]", "0% is neither"},
        Wrong{"waves: [{amount: 1000001}]", "1000001 is neither"},
        Wrong{"canary: {amount: 0}", "0 is neither"},
        Wrong{"canary: {soak: 5m}", "line 4, column 9: a canary must have either names and groups"},
        Wrong{"canary: {names: [a], amount: 1}", "either names and groups, or an amount"},
        Wrong{"domains: {names: [\"*********\"]}", "has more than 8 stars"},
        Wrong{"domains: {except: [a, a]}", "line 4, column 23: a is there twice"},
        Wrong{"checks: [{name: a b, command: [c]}]", "a b must be of letters, digits"},
        Wrong{"checks: [{name: a, command: [c]}, {name: a, command: [d]}]",
              "line 4, column 42: a is there twice"},
        Wrong{"checks: [{name: a, command: [\"\"]}]", "the first word must be a program"},
        Wrong{"checks: [{name: a, command: [\"a\\0b\"]}]", "without control characters"},
        Wrong{"checks: [{name: a, command: [c], where: vm}]", "vm is not one of host, guest"},
        Wrong{"checks: [{name: a, command: [c], timeout: 0}]", "0 is not from 1s to 1h"},
        Wrong{"on_failure: stop", "line 4, column 13: stop is not one of pause, abort, rollback"},
        Wrong{"on_overlap: wait", "wait is not one of refuse, queue"},
        Wrong{"apply: {timeout: 25h}", "25h is not from 0s to 24h"},
        Wrong{"apply: {max-pause: 2s}", "2s is not from 1ms to 1s"},
        Wrong{"apply: {on-stall: force}", "force is not one of revert, wait"},
        Wrong{"apply: {assist: on}", "on is not one of off, kick, full"}));

INSTANTIATE_TEST_SUITE_P(
    Windows, WrongPlan,
    testing::Values(
        Wrong{"window: {from: 24:00, to: 01:00}",
              "line 4, column 16: 24:00 is not a time of day "
              "from 00:00 to 23:59"},
        Wrong{"window: {from: 1:00, to: 02:00}", "1:00 is not a time of day"},
        Wrong{"window: {from: 01:60, to: 02:00}", "01:60 is not a time of day"},
        Wrong{"window: {from: \"01:0:\", to: 02:00}", "is not a time of day"},
        Wrong{"window: {from: 01:00, to: 02:00, days: [monday]}", "monday is not one of sun, mon"},
        Wrong{"window: {from: 01:00, to: 02:00, days: [mon, mon]}", "mon is there twice"},
        Wrong{"window: {from: 01:00, to: 02:00, days: []}", "it must be a list of 1 to 7"},
        Wrong{"window: {from: 01:00, to: 02:00, zone: Mars/Base}", "Mars/Base is not a time zone"},
        Wrong{"window: {from: 01:00, to: 02:00, cutoff: 90s}", "it must be whole minutes"},
        Wrong{"window: {from: 01:00, to: 02:00, cutoff: 2h}",
              "line 4, column 9: a cutoff of 2h "
              "leaves nothing of the window; it "
              "must be shorter than 1h"},
        Wrong{"window: {from: 23:30, to: 00:30, cutoff: 1h}", "a cutoff of 1h leaves nothing"}));

INSTANTIATE_TEST_SUITE_P(
    Together, WrongPlan,
    testing::Values(
        Wrong{"waves: [{amount: 60%}, {amount: 40%}, {amount: 100%}]",
              "line 4, column 39: the waves before this one take 100% already"},
        Wrong{"waves: [{soak: 1m}, {amount: 5}]", "take 100% already"},
        Wrong{"limits: {progress: 11m, per_domain: 10m}",
              "line 4, column 9: limits.progress (11m) must be longer than limits.per_domain (10m) "
              "and healthy_for (1m) together"},
        Wrong{"healthy_for: 2h", "must be longer than"},
        Wrong{"apply: {timeout: 9m, grace: 1m}",
              "line 4, column 8: timeout, grace, when-clear and settle of apply (10m together) "
              "must be shorter than limits.per_domain (10m)"}));

TEST(ParsePlan, TakesWhatIsJustWithinItsLimits) {
  for (const char* lines :
       {"window: {from: 23:30, to: 00:30, cutoff: 59m}", "limits: {progress: 661s}",
        "apply: {timeout: 599s}", "limits: {budget: 0}", "limits: {parallel: 10000}",
        "waves: [{amount: 99%}, {amount: 1}]", "healthy_for: 0"}) {
    const auto plan = with(lines);
    EXPECT_TRUE(plan) << lines << ": " << plan.error().what;
  }
}

TEST(ParsePlan, NeedsNameFilesAndConnections) {
  EXPECT_THAT(error_of(parse("files: [{kernel: a, file: b}]\nconnections: [c]")),
              HasSubstr("the key name is missing"));
  EXPECT_THAT(error_of(parse("name: a\nconnections: [c]")), HasSubstr("the key files is missing"));
  EXPECT_THAT(error_of(parse("name: a\nfiles: [{kernel: a, file: b}]")),
              HasSubstr("the key connections is missing"));
}

TEST(ParsePlan, RefusesTwoFilesForOneKernel) {
  EXPECT_THAT(error_of(parse("name: a\nconnections: [c]\nfiles:\n- {kernel: k, file: a}\n"
                             "- {kernel: k, file: b}")),
              HasSubstr("line 5, column 12: k is there twice"));
}

TEST(ParsePlan, RefusesAConnectionThatIsThereTwice) {
  EXPECT_THAT(error_of(parse("name: a\nfiles: [{kernel: k, file: a}]\nconnections: [c, c]")),
              HasSubstr("line 3, column 18: c is there twice"));
}

TEST(ParsePlan, RefusesNamesThatAreNoWords) {
  for (const char* name : {"-x", "a/b", "\"a b\"", "\"\"", ".", "[]", "\u00e4"}) {
    EXPECT_THAT(error_of(parse(fmt::format("name: {}\nfiles: [{{kernel: k, file: a}}]\n"
                                           "connections: [c]",
                                           name))),
                StartsWith("line 1, column 7: "))
        << name;
  }
}

TEST(ParsePlan, RefusesASecondDocument) {
  EXPECT_THAT(error_of(with("---\nname: b\n")), HasSubstr("line 4, column 1: a second document"));
  EXPECT_THAT(error_of(with("---\n")), HasSubstr("a second document"));
  // yaml-cpp finds documents without end in these.
  EXPECT_THAT(error_of(parse("{name: a}, b")), HasSubstr("line 1, column 10: a second document"));
  EXPECT_THAT(error_of(with("waves: [{amount: 1}]]")), HasSubstr("no YAML"));
}

TEST(ParsePlan, RefusesWhatIsNoPlan) {
  for (const char* yaml : {"", "# nothing\n", "plan", "[a]", "~"}) {
    EXPECT_THAT(error_of(parse(yaml)), HasSubstr("it must be a map with the keys name,")) << yaml;
  }
}

TEST(ParsePlan, RefusesWhatIsNoYamlAndSaysWhere) {
  EXPECT_THAT(error_of(with("persist: [true\n")), StartsWith("line 5, column 1: no YAML: "));
  EXPECT_THAT(error_of(with("persist: *nowhere\n")), StartsWith("line 4, column 10: no YAML: "));
}

TEST(ParsePlan, RefusesControlCharactersThatWouldHideWhatFollows) {
  // yaml-cpp takes byte 4 for the end of the text.
  EXPECT_EQ(error_of(with("persist: true\n\x04\nwrong: 1")),
            "line 5, column 1: there is a control character (byte 0x04)");
  EXPECT_THAT(error_of(with(std::string("persist: \0true", 14))),
              StartsWith("line 4, column 10: there is a control character"));
}

TEST(ParsePlan, RefusesTextThatIsNotUtf8) {
  EXPECT_THAT(error_of(with("domains: {names: [\"\xff\xfe\"]}")), HasSubstr("it must be UTF-8"));
}

TEST(ParsePlan, RefusesControlCharactersInTexts) {
  for (const char* text : {"\\x07", "\\u0085", "\u0085", "\u009b"}) {
    EXPECT_THAT(error_of(with(fmt::format("domains: {{names: [\"a{}\"]}}", text))),
                HasSubstr("line 4, column 19: it must be UTF-8 without control characters"))
        << text;
  }
  EXPECT_TRUE(with("domains: {names: [\"\u00c2\u00a0\u00e4\"]}"));
}

TEST(ParsePlan, ShowsNoControlCharactersInErrors) {
  const auto error = error_of(with("\"\\e[2J\": 1"));
  EXPECT_THAT(error, HasSubstr("unknown key"));
  EXPECT_THAT(error, Not(HasSubstr("\x1b")));
}

TEST(ParsePlan, RefusesWhatIsTooLongOrTooDeep) {
  EXPECT_THAT(error_of(with("#" + std::string(kLongestPlan, ' '))), HasSubstr("longer than"));
  EXPECT_THAT(error_of(with("waves: " + std::string(100'000, '['))), HasSubstr("no YAML"));
  EXPECT_THAT(error_of(with("domains: {names: [\"" + std::string(257, 'a') + "\"]}")),
              HasSubstr("1 to 256 bytes"));
}

TEST(ParsePlan, BoundsGlobsButNotPlainNames) {
  const auto names = [](int count, const char* end) {
    std::string list;
    for (int i = 0; i < count; ++i) {
      list += fmt::format("{}\"n{}{}\"", i == 0 ? "" : ", ", i, end);
    }
    return with("domains: {names: [" + list + "]}");
  };
  EXPECT_TRUE(names(10'000, ""));
  EXPECT_TRUE(names(256, "?"));
  EXPECT_THAT(error_of(names(257, "?")), HasSubstr("more than 256 globs"));
}

TEST(ToYaml, GivesBackThePlan) {
  for (const char* yaml : {kLeast, kWholePlan}) {
    const auto plan = parse(yaml);
    ASSERT_TRUE(plan);
    const auto again = parse_plan(to_yaml(*plan), "/elsewhere");
    ASSERT_TRUE(again) << again.error().what << "\n" << to_yaml(*plan);
    EXPECT_EQ(*again, *plan);
  }
}

/// Plans with odd texts and all limits, at random.
class RandomPlan {
 public:
  explicit RandomPlan(unsigned seed) : random_(seed) {}

  Plan make() {
    Plan plan;
    plan.name = fmt::format("r{}", pick(0, 1000));
    for (auto i = pick(1, 3); i > 0; --i) {
      plan.files.push_back({text(i), "/" + text(i)});
    }
    plan.selection = {texts(1), texts(0), texts(0), texts(0)};
    if (coin()) {
      plan.canary = coin() ? Canary{{}, amount(1), seconds(0, 9000)}
                           : Canary{{{}, texts(1), texts(0), {}}, {}, seconds(0, 9000)};
    }
    plan.waves = {{{pick(1, 99), Amount::Unit::percent}, seconds(0, 100)}, {amount(1), 0s}};
    plan.limits = {pick(1, 100), pick(1, 100), amount(0), seconds(1, 1000), seconds(2001, 9000)};
    plan.healthy_for = seconds(0, 1000);
    for (auto i = pick(0, 3); i > 0; --i) {
      plan.checks.push_back(
          {fmt::format("c{}", i), {"p" + text(0), text(1) + "\n\t", ""}, coin(), seconds(1, 3600)});
    }
    plan.on_failure = static_cast<OnFailure>(pick(0, 2));
    plan.on_overlap = static_cast<OnOverlap>(pick(0, 1));
    if (coin()) {
      plan.window = MaintenanceWindow{std::bitset<7>(pick(1, 127)), minutes(), minutes(), 0min,
                                      coin() ? "UTC" : "Europe/Berlin"};
    }
    plan.persist = coin();
    if (coin()) {
      plan.apply_options = {"--allow-downgrade", "--quiesce=a", "--switch-after=20ms"};
    }
    return plan;
  }

 private:
  std::uint32_t pick(std::uint32_t least, std::uint32_t most) {
    return std::uniform_int_distribution(least, most)(random_);
  }
  bool coin() { return pick(0, 1) == 1; }
  std::chrono::seconds seconds(std::uint32_t least, std::uint32_t most) {
    return std::chrono::seconds(pick(least, most));
  }
  std::chrono::minutes minutes() { return std::chrono::minutes(pick(0, 1439)); }
  Amount amount(std::uint32_t least) { return {pick(least, 100), Amount::Unit(pick(0, 1))}; }
  std::string text(std::uint32_t number) {
    static const std::vector<std::string> kOdd = {
        "~",  "null",   "true",   "5",          " a ", "a: b",   "# a", "\"q\"", "'",
        "\\", "- a",    "{a}",    "[b-z]",      "%",   "\u00e4", "&a",  "*a",    "!t",
        "|",  "\ufeff", "\u00a0", "\U0001f600", "",    "..",     "a,b", "@`",    "\u2028"};
    return kOdd[pick(0, static_cast<std::uint32_t>(kOdd.size() - 1))] + fmt::format("{}", number);
  }
  std::vector<std::string> texts(std::uint32_t least) {
    std::vector<std::string> made;
    for (auto i = pick(least, 4); i > 0; --i) {
      made.push_back(text(i));
    }
    return made;
  }

  std::mt19937 random_;
};

TEST(ToYaml, GivesBackAnyPlan) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const Plan plan = RandomPlan(seed).make();
    const auto again = parse_plan(to_yaml(plan), "/elsewhere");
    ASSERT_TRUE(again) << seed << ": " << again.error().what << "\n" << to_yaml(plan);
    ASSERT_EQ(*again, plan) << seed << "\n" << to_yaml(plan) << "\n" << to_yaml(*again);
  }
}

/// Whether the command line of `vpatch apply` takes a plan's words.
bool command_line_takes(const std::vector<std::string>& options) {
  std::vector<std::string> words = {"vpatch", "apply", "fix.ko", "--domain=web01"};
  words.insert(words.end(), options.begin(), options.end());
  std::vector<char*> pointers;
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  return parse_command_line(static_cast<int>(pointers.size()), pointers.data()).verb == Verb::apply;
}

TEST(ApplyOptions, AreTakenByTheCommandLine) {
  EXPECT_TRUE(command_line_takes(parse(kWholePlan)->apply_options));
  for (const char* option :
       {"timeout: 0", "timeout: 23h", "grace: 23h", "signal-after: 1h", "switch-after: 1h",
        "max-pause: 1ms", "max-pause: 1s", "when-clear: 0", "when-clear: 23h", "settle: 1h",
        "assist: off", "assist: full", "on-stall: revert", "allow-downgrade: true"}) {
    const auto plan =
        with(fmt::format("limits: {{per_domain: 24h, progress: 48h}}\napply: {{{}}}", option));
    ASSERT_TRUE(plan) << option << ": " << plan.error().what;
    ASSERT_THAT(plan->apply_options, SizeIs(1)) << option;
    EXPECT_TRUE(command_line_takes(plan->apply_options)) << option;
  }
  EXPECT_FALSE(command_line_takes({"--max-pause=2s"}));
}

}  // namespace
}  // namespace vpatch::rollout

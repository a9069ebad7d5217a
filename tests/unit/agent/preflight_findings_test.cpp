// SPDX-License-Identifier: Apache-2.0
// Every finding of preflight that depends on guest memory, on the signature or on the file alone:
// one row for each situation, with all that is said of it.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/preflight.h"

namespace vpatch {
namespace {

using testing::HasSubstr;
using enum Severity;

/// An apply of a patch of vmlinux:f, whose symbol is there once, to an empty guest.
struct Situation {
  Situation() {
    file.name = "fix";
    file.version = "2";
    file.release = guest.release = "6.1.0-test";
    file.contents = PatchContents{
        .replace = false,
        .objects = {{.name = "vmlinux", .functions = {{"f", 0, "new_f"}}, .callbacks = {}}},
        .states = {}};
    guest.has_livepatch = true;
    facts.symbols->push_back({.object = "vmlinux", .name = "f", .places = {{0x1000, 0x80}}});
  }

  PatchContents& contents() { return *file.contents; }
  PatchFacts& in_force(std::string name) {
    guest.patches.push_back({.name = name,
                             .enabled = true,
                             .transition = false,
                             .replace = true,
                             .stack_order = std::nullopt,
                             .objects = {}});
    facts.patches->push_back({.name = std::move(name), .version = "1", .replace = true});
    return facts.patches->back();
  }
  ApplyPlan plan() const { return plan_apply(file, guest, facts, "", options); }

  LivepatchFile file;
  GuestState guest;
  GuestFacts facts;
  PreflightOptions options;
};

struct Said {
  Severity severity;
  std::string id;
  std::string row = "";
  std::string overridden_by = "";

  bool operator==(const Said&) const = default;
  friend void PrintTo(const Said& said, std::ostream* out) {
    *out << to_string(said.severity) << ' ' << said.id << ' ' << said.row << ' '
         << said.overridden_by;
  }
};

struct Row {
  std::string name;
  std::function<void(Situation&)> prepare;
  std::vector<Said> said;

  friend void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }
};

std::vector<Row> file_rows() {
  return {
      {"NothingToSay", [](Situation&) {}, {}},
      {"ObjectTwice",
       [](Situation& s) {
         s.contents().objects.push_back({.name = "vmlinux", .functions = {}, .callbacks = {}});
       },
       {{error, "duplicate-object"}}},
      {"FunctionTwice",
       [](Situation& s) { s.contents().objects[0].functions.push_back({"f", 1, "other_f"}); },
       {{error, "duplicate-function"}}},
      {"StateTwice",
       [](Situation& s) { s.contents().states = {{7, 1}, {7, 2}}; },
       {{error, "duplicate-state", "R14"}}},
      {"Callbacks",
       [](Situation& s) { s.contents().objects[0].callbacks.pre_patch = true; },
       {{note, "callbacks", "R5"}}},
      {"ContentsUnknown",
       [](Situation& s) { s.file.contents.reset(); },
       {{warning, "contents-unknown"}}},
      {"SignatureMissingWhereNoneIsAsked",
       [](Situation& s) { s.options.signature = SignatureCheck{}; },
       {}},
      {"SignatureMissing",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{};
       },
       {{error, "signature-missing"}}},
      {"SignatureNotLookedAt",
       [](Situation& s) { s.options.require_signed = true; },
       {{error, "signature-missing"}}},
      {"SignatureUnchecked",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{.state = SignatureState::unchecked};
       },
       {{error, "signature-unchecked"}}},
      {"SignatureWrongKey",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{.state = SignatureState::wrong_key};
       },
       {{error, "signature-wrong-key"}}},
      {"SignatureTampered",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{.state = SignatureState::tampered};
       },
       {{error, "signature-tampered"}}},
      {"SignatureMalformed",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{.state = SignatureState::malformed};
       },
       {{error, "signature-malformed"}}},
      {"SignatureTamperedWhereNoneIsAsked",
       [](Situation& s) {
         s.options.signature = SignatureCheck{.state = SignatureState::tampered};
       },
       {{warning, "signature-tampered"}}},
      {"SignatureGood",
       [](Situation& s) {
         s.options.require_signed = true;
         s.options.signature = SignatureCheck{.state = SignatureState::good, .signer = "CN = us"};
       },
       {{note, "signature-good"}}},
  };
}

std::vector<Row> state_rows() {
  const auto with_state = [](Situation& s, std::uint32_t own, std::uint32_t in_force) {
    s.contents().replace = true;
    s.contents().states = {{7, own}};
    s.in_force("old").states = {{7, in_force}};
  };
  return {
      {"StateNewer", [=](Situation& s) { with_state(s, 3, 2); }, {}},
      {"StateSame", [=](Situation& s) { with_state(s, 2, 2); }, {}},
      {"StateOlder",
       [=](Situation& s) { with_state(s, 1, 2); },
       {{error, "state-older", "R14"}, {note, "downgrade", "R4"}}},
      {"StateOlderInAPatchThatReplacesNothing",
       [=](Situation& s) {
         with_state(s, 1, 2);
         s.contents().replace = false;
       },
       {{error, "state-older", "R14"}}},
      {"StateMissing",
       [=](Situation& s) {
         with_state(s, 1, 1);
         s.contents().states = {};
       },
       {{error, "state-missing", "R14"}}},
      {"StateMissingInAPatchThatReplacesNothing",
       [=](Situation& s) {
         with_state(s, 1, 1);
         s.contents().states = {};
         s.contents().replace = false;
       },
       {}},
      {"StateMissingWhereReplaceIsUnknown",
       [=](Situation& s) {
         with_state(s, 1, 1);
         s.contents().states = {};
         s.contents().replace.reset();
       },
       {{warning, "state-missing", "R14"}}},
      {"StateOfAnOlderLoadOfTheSamePatch",
       [=](Situation& s) {
         with_state(s, 1, 2);
         s.facts.patches->back().name = "fix";
       },
       {}},
  };
}

std::vector<Row> in_force_rows() {
  const auto older = [](Situation& s) -> PatchFacts& {
    s.contents().replace = true;
    s.file.version = "1.9";
    PatchFacts& patch = s.in_force("new");
    patch.version = "1.10";
    return patch;
  };
  return {
      {"Upgrade",
       [](Situation& s) {
         s.contents().replace = true;
         s.in_force("old");
       },
       {}},
      {"PlainDowngrade", [=](Situation& s) { older(s); }, {{note, "downgrade", "R4"}}},
      {"DowngradeOfAPatchThatReplacesNothing", [=](Situation& s) { older(s).replace = false; }, {}},
      {"DowngradeWithCallbacksInForce",
       [=](Situation& s) { older(s).callbacks.post_patch = true; },
       {{error, "downgrade", "R4", "--allow-downgrade"}}},
      {"DowngradeWithCallbacksInForceAllowed",
       [=](Situation& s) {
         older(s).callbacks.post_patch = true;
         s.options.allow_downgrade = true;
       },
       {{warning, "downgrade", "R4", "--allow-downgrade"}}},
      {"DowngradeWithOwnCallbacks",
       [=](Situation& s) {
         older(s);
         s.contents().objects[0].callbacks.pre_patch = true;
       },
       {{note, "callbacks", "R5"}, {error, "downgrade", "R4", "--allow-downgrade"}}},
      {"DowngradeWithStates",
       [=](Situation& s) {
         older(s).states = {{7, 1}};
         s.contents().states = {{7, 1}};
       },
       {{error, "downgrade", "R4", "--allow-downgrade"}}},
      {"VersionUnknown",
       [=](Situation& s) { older(s).version.clear(); },
       {{warning, "downgrade-unknown", "R4"}}},
      {"CallbacksThatWillNotRun",
       [](Situation& s) {
         s.contents().replace = true;
         s.in_force("old").callbacks.post_unpatch = true;
       },
       {{note, "callbacks-not-run", "R5"}}},
      {"ForcedPatch",
       [](Situation& s) { s.in_force("old").forced = true; },
       {{warning, "forced-patch", "R10"}}},
      {"LivepatchModuleThatIsHeld",
       [](Situation& s) {
         s.guest.modules.push_back({.name = "old", .references = 1, .flags = "OEK"});
       },
       {{warning, "livepatch-module-held", "R10"}}},
      {"LivepatchModuleThatIsLeftOver",
       [](Situation& s) {
         s.guest.modules.push_back({.name = "old", .references = 0, .flags = "OEK"});
       },
       {}},
      {"ConflictWhereReplaceIsUnknown",
       [](Situation& s) {
         s.contents().replace.reset();
         s.in_force("old");
         s.guest.patches.back().objects = {{"vmlinux", true, {"f,1"}}};
       },
       {{warning, "function-conflict", "R7", "--allow-stacking"}}},
      {"SameNameAtAnotherPosition",
       [](Situation& s) {
         s.contents().objects[0].functions[0].position = 2;
         s.facts.symbols->front().places = {{0x1000, 0x80}, {0x2000, 0x80}};
         s.in_force("old");
         s.guest.patches.back().objects = {{"vmlinux", true, {"f,1"}}};
       },
       {}},
  };
}

std::vector<Row> function_rows() {
  const auto probe = [](Situation& s, const ProbeFacts& facts) {
    s.facts.probes->push_back(facts);
  };
  const auto twice = [](Situation& s, std::uint64_t position) {
    s.facts.symbols->front().places = {{0x1000, 0x80}, {0x2000, 0x80}};
    s.contents().objects[0].functions[0].position = position;
  };
  return {
      {"SymbolMissing",
       [](Situation& s) { s.facts.symbols->front().places.clear(); },
       {{error, "symbol-missing", "R20"}}},
      {"SymbolAmbiguous", [=](Situation& s) { twice(s, 0); }, {{error, "symbol-ambiguous", "R20"}}},
      {"SymbolAtItsPosition", [=](Situation& s) { twice(s, 2); }, {}},
      {"SymbolBeyondTheLastPosition",
       [=](Situation& s) { twice(s, 3); },
       {{error, "symbol-position", "R20"}}},
      {"PositionOneOfAUniqueName",
       [](Situation& s) { s.contents().objects[0].functions[0].position = 1; },
       {}},
      {"PositionTwoOfAUniqueName",
       [](Situation& s) { s.contents().objects[0].functions[0].position = 2; },
       {{error, "symbol-position", "R20"}}},
      {"NeededSymbolMissing",
       [](Situation& s) {
         s.file.symbols = {{"ext4", "g", 0}};
         s.facts.symbols->push_back({.object = "ext4", .name = "g"});
       },
       {{error, "symbol-missing", "R20"}}},
      {"NeededSymbolOfAModuleThatIsNotLoaded",
       [](Situation& s) { s.file.symbols = {{"ext4", "g", 0}}; },
       {}},
      {"TargetNotLoaded",
       [](Situation& s) { s.contents().objects[0].name = "ext4"; },
       {{note, "target-not-loaded", "R6"}}},
      {"ProbeWithPostHandlerThroughFtrace",
       [=](Situation& s) {
         probe(s, {.address = 0x1000, .post_handler = true, .by_ftrace = true});
       },
       {{error, "kprobe-conflict"}}},
      {"ProbeWithPostHandlerThroughFtraceDisabled",
       [=](Situation& s) {
         probe(s, {.address = 0x1000, .post_handler = true, .by_ftrace = true, .disabled = true});
       },
       {{warning, "kprobe-conflict"}}},
      {"ProbeThroughFtrace",
       [=](Situation& s) { probe(s, {.address = 0x1004, .by_ftrace = true}); },
       {{note, "kprobe-kept"}}},
      {"ProbeInside",
       [=](Situation& s) { probe(s, {.address = 0x107f, .post_handler = true}); },
       {{warning, "kprobe-bypassed"}}},
      {"ProbeBehind", [=](Situation& s) { probe(s, {.address = 0x1080}); }, {}},
      {"ProbeBefore", [=](Situation& s) { probe(s, {.address = 0xfff}); }, {}},
      {"ProbeOnTheOtherSymbolOfThatName",
       [=](Situation& s) {
         twice(s, 1);
         probe(s, {.address = 0x2000, .post_handler = true, .by_ftrace = true});
       },
       {}},
      {"FtraceOff",
       [](Situation& s) { s.facts.ftrace = introspect::FtraceState::off; },
       {{error, "ftrace-off"}}},
      {"FtraceDead",
       [](Situation& s) { s.facts.ftrace = introspect::FtraceState::dead; },
       {{error, "ftrace-dead"}}},
      {"NoMemory",
       [](Situation& s) { s.facts = unknown_facts("it is encrypted"); },
       {{warning, "facts-unknown"}}},
      {"OnlyProbesUnknown",
       [](Situation& s) { s.facts.probes = std::unexpected("no kprobe_table"); },
       {{warning, "facts-unknown"}}},
      {"TwoReasons",
       [](Situation& s) {
         s.facts.probes = std::unexpected("no kprobe_table");
         s.facts.ftrace = std::unexpected("no ftrace_enabled");
       },
       {{warning, "facts-unknown"}, {warning, "facts-unknown"}}},
  };
}

class PreflightFindings : public testing::TestWithParam<Row> {};

TEST_P(PreflightFindings, AreTheseAndDecideTheAction) {
  Situation situation;
  GetParam().prepare(situation);
  const ApplyPlan plan = situation.plan();
  std::vector<Said> said;
  bool refused = false;
  for (const Finding& finding : plan.findings) {
    said.push_back({finding.severity, finding.id, finding.row, finding.overridden_by});
    refused |= finding.severity == error;
    EXPECT_TRUE(finding.severity != error || !finding.hint.empty()) << finding.text;
  }
  EXPECT_EQ(said, GetParam().said);
  EXPECT_EQ(plan.action, refused ? ApplyAction::refuse : ApplyAction::load);
}

const auto kName = [](const auto& test) { return test.param.name; };
INSTANTIATE_TEST_SUITE_P(File, PreflightFindings, testing::ValuesIn(file_rows()), kName);
INSTANTIATE_TEST_SUITE_P(States, PreflightFindings, testing::ValuesIn(state_rows()), kName);
INSTANTIATE_TEST_SUITE_P(InForce, PreflightFindings, testing::ValuesIn(in_force_rows()), kName);
INSTANTIATE_TEST_SUITE_P(Functions, PreflightFindings, testing::ValuesIn(function_rows()), kName);

TEST(PreflightTexts, AnAmbiguousSymbolListsItsCandidates) {
  Situation situation;
  situation.facts.symbols->front().places = {{0x1000, 0x80}, {0x2000, 0x80}};
  EXPECT_THAT(situation.plan().findings.at(0).text,
              HasSubstr("vmlinux:f is the name of 2 symbols: 1 at 0x1000, 2 at 0x2000"));
}

TEST(PreflightTexts, WhatIsUnknownForOneReasonIsSaidOnce) {
  Situation situation;
  situation.facts = unknown_facts("it is encrypted");
  EXPECT_EQ(situation.plan().findings.at(0).text,
            "unknown: states and callbacks in force, symbol positions, kprobes, whether ftrace is "
            "on: it is encrypted");
}

TEST(PreflightTexts, AFindingSaysItsIdRowAndWhatOverridesIt) {
  const Finding finding{error, "function-conflict", "f is changed", "", "R7", "--allow-stacking"};
  EXPECT_EQ(describe(finding),
            "f is changed [function-conflict, R7, --allow-stacking overrides it]");
  EXPECT_EQ(describe({note, "callbacks", "it has callbacks"}), "it has callbacks [callbacks]");
}

}  // namespace
}  // namespace vpatch

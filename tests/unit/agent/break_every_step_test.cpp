// SPDX-License-Identifier: Apache-2.0
// Every call of an operation is broken in every way, one at a time. Whatever happens, the report
// must tell the truth about the guest, and "needs a look" is no way out where the guest could have
// been put in order.
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/force.h"
#include "vmm-agent/operation/revert.h"
#include "vmm-agent/operation/roll_forward.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};
const ModuleImage kOther{
    .name = "old", .build_id = "cc33", .objects = {{"vmlinux", true, {"vfs_read,1"}}}};

/// Livepatches and modules of the guest as text; what is compared when a guest must be as before.
std::string picture(const FakeKernel& kernel) {
  std::set<std::string> lines;
  for (const GuestPatch& patch : kernel.patches) {
    lines.insert(fmt::format("{} {}", patch.name, to_string(patch.phase())));
  }
  for (const auto& [name, module] : kernel.modules) {
    lines.insert(fmt::format("module {} of build {}", name, module.build_id));
  }
  std::string text;
  for (const std::string& line : lines) {
    text += line + "\n";
  }
  return text;
}

struct Breakage {
  std::string name;
  std::function<void(OperationBench&, std::size_t)> arrange;  ///< breaks the call of that number
  bool dead = false;                                          ///< the agent never answers again
  bool ends_transition = false;  ///< the one that runs ends, without anybody's doing

  friend void PrintTo(const Breakage& breakage, std::ostream* out) { *out << breakage.name; }
};

Breakage broken_by_fault(std::string name, std::size_t count, Fault fault) {
  return {std::move(name),
          [=](OperationBench& bench, std::size_t k) {
            bench.guest.fail({.first = k, .count = count}, fault);
          },
          count == When::kForEver};
}

std::vector<Breakage> breakages() {
  using Effect = Fault::Effect;
  const auto interrupt = [](OperationBench& bench) { return [&bench] { bench.press_ctrl_c(); }; };
  return {
      broken_by_fault("RequestLost", 1, {}),
      broken_by_fault("RequestLostAtOnce", 1, {.cost = milliseconds(0)}),
      broken_by_fault("ReplyLost", 1, {.effect = Effect::whole}),
      broken_by_fault("AgentRestarts", 5, {.effect = Effect::none, .cost = milliseconds(100)}),
      broken_by_fault("AgentDies", When::kForEver, {}),
      broken_by_fault("AgentDiesAtOnce", When::kForEver, {.cost = milliseconds(0)}),
      broken_by_fault("AgentDiesAfterActing", When::kForEver, {.effect = Effect::whole}),
      {"CtrlCBefore", [=](OperationBench& bench,
                          std::size_t k) { bench.guest.before({.first = k}, interrupt(bench)); }},
      {"CtrlCDuring", [=](OperationBench& bench,
                          std::size_t k) { bench.guest.during({.first = k}, interrupt(bench)); }},
      {"CtrlCAfter", [=](OperationBench& bench,
                         std::size_t k) { bench.guest.after({.first = k}, interrupt(bench)); }},
      {"CtrlCAndAgentDies",
       [=](OperationBench& bench, std::size_t k) {
         bench.guest.before({.first = k}, interrupt(bench));
         bench.guest.fail({.first = k + 1, .count = When::kForEver});
       },
       true},
      {"TransitionEndsBefore",
       [](OperationBench& bench, std::size_t k) {
         bench.guest.before({.first = k}, [&bench] { bench.kernel.end_transition(); });
       },
       false, true},
  };
}

struct Scenario {
  std::string name;
  std::function<void(OperationBench&)> prepare;
  std::function<Report(OperationBench&)> run;
  bool in_force;                   ///< where the patch is when the operation is done
  std::set<std::string> restored;  ///< pictures that count as restored, besides that of before

  friend void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }
};

Report apply_it(OperationBench& bench, bool replace = false, OnStall on_stall = OnStall::revert) {
  ModuleImage image = kPatch;
  image.replace = replace;
  bench.guest.images["p1"] = image;
  return apply(bench.context, file_of(image), {.timeout = seconds(5), .on_stall = on_stall});
}

Report revert_it(OperationBench& bench, OnStall on_stall = OnStall::revert) {
  return revert(bench.context, {.patch = "p1", .timeout = seconds(5), .on_stall = on_stall});
}

Report revert_to_it(OperationBench& bench) {
  ModuleImage image = kPatch;
  image.replace = true;
  bench.guest.images["p1"] = image;
  return revert_to(bench.context, file_of(image), {.timeout = seconds(5)});
}

Report force_it(OperationBench& bench) {
  return force(bench.context, {.timeout = seconds(5),
                               .confirm = [](const ForceQuestion&) { return Result<void>(); }});
}

std::vector<Scenario> scenarios() {
  const auto nothing = [](OperationBench&) {};
  const auto stalls = [](OperationBench& bench) { bench.kernel.patching.reset(); };
  const auto with_old = [](OperationBench& bench) { bench.kernel.put(kOther); };
  const auto in_force = [](OperationBench& bench) { bench.kernel.put(kPatch); };
  const auto stalls_in_force = [](OperationBench& bench) {
    bench.kernel.put(kPatch);
    bench.kernel.unpatching.reset();
  };
  return {
      {"Apply", nothing, [](OperationBench& bench) { return apply_it(bench); }, true, {}},
      {"ApplyOverAStaleModule",
       [](OperationBench& bench) { bench.kernel.modules["p1"] = {.build_id = "bb22"}; },
       [](OperationBench& bench) { return apply_it(bench); },
       true,
       {""}},
      {"ApplyThatReplaces",
       with_old,
       [](OperationBench& bench) { return apply_it(bench, true); },
       true,
       {}},
      {"RevertToACumulativePatch", with_old, revert_to_it, true, {}},
      {"Force",
       [](OperationBench& bench) {
         bench.kernel.patching.reset();
         bench.kernel.pending = {1, {{.tid = 7, .name = "dd"}}};
         bench.kernel.put(kPatch, true);
       },
       force_it,
       true,
       {}},
      {"ApplyThatJoins",
       [](OperationBench& bench) { bench.kernel.put(kPatch, true); },
       [](OperationBench& bench) { return apply_it(bench); },
       true,
       {""}},
      {"ApplyThatStalls", stalls, [](OperationBench& bench) { return apply_it(bench); }, true, {}},
      {"ApplyInterruptedInItsTransition",
       [=](OperationBench& bench) {
         stalls(bench);
         bench.guest.after({.op = Op::pending_tasks}, [&bench] { bench.press_ctrl_c(); });
       },
       [](OperationBench& bench) { return apply_it(bench); },
       true,
       {}},
      {"ApplyInterruptedInItsDelivery",
       [](OperationBench& bench) {
         bench.guest.during({.op = Op::deliver}, [&bench] { bench.press_ctrl_c(); });
       },
       [](OperationBench& bench) { return apply_it(bench); },
       true,
       {}},
      {"ApplyThatIsLeftPending",
       stalls,
       [](OperationBench& bench) { return apply_it(bench, false, OnStall::wait); },
       true,
       {}},
      {"ApplyThatReplacesAndStalls",
       [=](OperationBench& bench) {
         with_old(bench);
         stalls(bench);
       },
       [](OperationBench& bench) { return apply_it(bench, true); },
       true,
       {}},
      {"ApplyTheKernelRefuses",
       [](OperationBench& bench) {
         bench.guest.refuse({.op = Op::load, .count = When::kForEver}, "insmod: ERROR");
       },
       [](OperationBench& bench) { return apply_it(bench); },
       true,
       {}},
      {"ApplyThatEnablesNothing",
       nothing,
       [](OperationBench& bench) {
         bench.guest.images["p1"] = {.name = "p1", .build_id = "aa11", .enables = false};
         return apply(bench.context, file_of(kPatch), {});
       },
       true,
       {}},
      {"Revert", in_force, [](OperationBench& bench) { return revert_it(bench); }, false, {}},
      {"RevertOfALeftoverModule",
       [](OperationBench& bench) { bench.kernel.modules["p1"] = {.build_id = "aa11"}; },
       [](OperationBench& bench) { return revert_it(bench); },
       false,
       {}},
      {"RevertThatStalls",
       stalls_in_force,
       [](OperationBench& bench) { return revert_it(bench); },
       false,
       {}},
      {"RevertInterruptedInItsTransition",
       [=](OperationBench& bench) {
         stalls_in_force(bench);
         bench.guest.after({.op = Op::pending_tasks}, [&bench] { bench.press_ctrl_c(); });
       },
       [](OperationBench& bench) { return revert_it(bench); },
       false,
       {}},
      {"RevertThatIsLeftPending",
       stalls_in_force,
       [](OperationBench& bench) { return revert_it(bench, OnStall::wait); },
       false,
       {}},
  };
}

/// What the report leaves unsaid or says wrongly about the guest; empty when it tells the truth.
std::string lie_in(const Report& report, const OperationBench& bench, const Scenario& scenario,
                   const std::set<std::string>& before, bool dead) {
  const GuestPatch* patch = bench.kernel.find("p1");
  const bool in_force = patch != nullptr && patch->phase() == PatchPhase::patched;
  const bool gone = patch == nullptr && !bench.kernel.modules.contains("p1");
  const std::string now = picture(bench.kernel);
  switch (report.outcome) {
    case Outcome::done:
      return (scenario.in_force ? in_force : gone) ? "" : "it is not done";
    case Outcome::refused:
    case Outcome::unreachable:
      return before.contains(now) ? "" : "the guest was touched";
    case Outcome::failed_restored:
    case Outcome::stalled_reverted:
      return before.contains(now) || scenario.restored.contains(now) ? ""
                                                                     : "the guest is not as before";
    case Outcome::stalled_waiting:
      // That the transition ends just after the last look cannot be helped.
      return (patch != nullptr && patch->transition) || in_force == scenario.in_force
                 ? ""
                 : "no transition is pending";
    case Outcome::failed_needs_look: {
      const bool lost = before.begin()->find("old patched") != std::string::npos &&
                        bench.kernel.find("old") == nullptr;
      const bool unseen = std::ranges::count(report.findings, "unseen", &Finding::id) != 0;
      if (unseen != dead) {
        return dead ? "that the guest has fallen silent is not said" : "it could have been seen";
      }
      return dead || (lost && !in_force) ? "" : "the guest could have been put in order";
    }
    case Outcome::usage:
    case Outcome::unrecorded:
    case Outcome::internal:
      break;
  }
  return "an outcome that cannot be";
}

/// A file left in the guest is bearable when its agent is dead and the user is told.
std::string file_left(const Report& report, const OperationBench& bench, bool dead) {
  std::string said = report.summary + report.hint;
  for (const std::string& warning : bench.reporter.warnings) {
    said += warning;
  }
  if (bench.guest.files.empty() || (dead && said.find("file") != std::string::npos)) {
    return "";
  }
  return dead ? "a file is left and nothing said" : "a file is left";
}

/// The guest that nobody worked on: its own transition may have gone on meanwhile.
std::string picture_of_untouched(const Scenario& scenario, milliseconds elapsed,
                                 bool ends_transition) {
  OperationBench bench;
  scenario.prepare(bench);
  if (ends_transition) {
    bench.kernel.end_transition();
  }
  bench.clock.advance(elapsed);
  return picture(bench.kernel);
}

std::size_t calls_of(const Scenario& scenario) {
  OperationBench bench;
  scenario.prepare(bench);
  scenario.run(bench);
  return bench.guest.calls.size();
}

class BreakEveryStep : public testing::TestWithParam<std::tuple<Scenario, Breakage>> {};

TEST_P(BreakEveryStep, LeavesATrueReport) {
  const auto& [scenario, breakage] = GetParam();
  const std::size_t count = calls_of(scenario);
  for (std::size_t k = 1; k <= count; ++k) {
    OperationBench bench;
    scenario.prepare(bench);
    std::set<std::string> before = {picture(bench.kernel)};
    breakage.arrange(bench, k);
    const Report report = scenario.run(bench);
    before.insert(picture_of_untouched(scenario, bench.clock.elapsed(), breakage.ends_transition));
    const std::string story =
        fmt::format("call {} of {}: {}\n{}: {}\nguest:\n{}", k, count,
                    k <= bench.guest.calls.size() ? bench.guest.calls[k - 1] : "",
                    to_string(report.outcome), report.summary, picture(bench.kernel));
    EXPECT_EQ(lie_in(report, bench, scenario, before, breakage.dead), "") << story;
    EXPECT_EQ(file_left(report, bench, breakage.dead), "") << story;
    EXPECT_LT(bench.clock.elapsed(), minutes(10)) << story;
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, BreakEveryStep,
                         testing::Combine(testing::ValuesIn(scenarios()),
                                          testing::ValuesIn(breakages())),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + std::get<1>(test.param).name;
                         });

}  // namespace
}  // namespace vpatch

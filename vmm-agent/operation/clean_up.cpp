// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/clean_up.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/operation/patience.h"
#include "vmm-agent/operation/transition.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLookEach{500};   ///< at guest memory, which costs the guest nothing
constexpr milliseconds kAskEach{2'000};  ///< the guest agent

constexpr int kLooksAtKept = 2;

bool shows_kept(const std::vector<ForcedPatch>& forced) {
  return std::ranges::find(forced, ForcedSign::kept_module, &ForcedPatch::sign) != forced.end();
}

/// What guest memory shows to be wrong. Memory that cannot be read for kPatience is.
std::string problem_in_memory(Context& context, const CleanUp& how) {
  if (context.introspection == nullptr || !how.mark) {
    return {};
  }
  const auto found = patiently(context, [&] {
    return context.introspection->problems(how.patch, *how.mark, context.steady());
  });
  if (!found) {
    return "guest memory can no longer be read: " + found.error().what;
  }
  return found->empty() ? "" : found->front();
}

/// The first thing that goes wrong in the grace time.
Result<void> watch_grace_time(Context& context, const CleanUp& how) {
  const auto start = context.clock.now();
  auto asked = start;
  for (;;) {
    if (std::string problem = problem_in_memory(context, how); !problem.empty()) {
      return fail(Outcome::failed_needs_look, std::move(problem));
    }
    if (context.stop.stop_requested()) {
      return {};
    }
    const auto now = context.clock.now();
    const bool over = now - start >= how.grace;
    if (over || now - asked >= kAskEach) {
      if (auto well = how.find_problem(); !well || over) {
        return well;
      }
      asked = context.clock.now();
    }
    const auto left = std::chrono::ceil<milliseconds>(how.grace - (context.clock.now() - start));
    context.clock.wait(std::clamp(left, milliseconds(0), kLookEach), context.stop);
  }
}

/// Why no module may be unloaded: a task may still be in code that the kernel thinks is left.
std::string forced_text(Context& context, const CleanUp& how) {
  auto forced = how.forced_before;
  if (context.introspection != nullptr) {
    const auto found =
        patiently(context, [&] { return context.introspection->forced(context.steady()); });
    if (!found) {
      return "whether a transition was forced cannot be told: " + found.error().what;
    }
    // The modules just replaced look kept until the kernel lets go of them.
    std::ranges::copy_if(*found, std::back_inserter(forced), [](const ForcedPatch& one) {
      return one.sign != ForcedSign::kept_module;
    });
  }
  return forced.empty() ? "" : describe(forced.front());
}

void unload(Context& context, Report& report) {
  for (const std::string& old : report.replaced) {
    if (auto unloaded = unload_module(context, old); unloaded) {
      report.unloaded.push_back(old);
      context.reporter.step(fmt::format("unloaded the replaced module {}", old));
    } else {
      warn(context.reporter, report,
           {Severity::warning, "replaced-kept", unloaded.error().what, unloaded.error().hint});
    }
  }
}

}  // namespace

std::vector<ForcedPatch> find_forced(Context& context, const GuestState& state) {
  const auto look = [&context](const GuestState& guest) {
    if (context.introspection != nullptr) {
      if (auto found = context.introspection->forced(context.interruptible())) {
        return *std::move(found);
      }
    }
    return forced_patches(guest, {});
  };
  auto forced = look(state);
  // The kernel lets go of a module a moment after its patch has gone.
  for (int tries = 0; tries < kLooksAtKept && shows_kept(forced); ++tries) {
    context.clock.wait(kRetryAfterError, context.stop);
    const auto again = context.guest.observe(context.interruptible());
    forced = look(again ? *again : state);
  }
  return forced;
}

void clean_up_replaced(Context& context, const CleanUp& how, Report& report) {
  if (report.replaced.empty()) {
    return;
  }
  context.reporter.progress(
      fmt::format("grace time of {:.0f} s before replaced modules are unloaded",
                  std::chrono::duration<double>(how.grace).count()));
  const auto well = watch_grace_time(context, how);
  if (!well || context.stop.stop_requested()) {
    warn(context.reporter, report,
         {Severity::warning, "replaced-kept",
          fmt::format("replaced modules stay loaded: {}", well ? "interrupted" : well.error().what),
          "Unload each later with `vpatch revert NAME`."});
    if (!well) {
      report.conclude_in_doubt(
          well.error(),
          fmt::format("{}: {} is in force, but {}", context.domain, how.patch, well.error().what),
          "Look at the guest's kernel log; `vpatch revert` takes the patch back.");
    }
    return;
  }
  if (const std::string forced = forced_text(context, how); !forced.empty()) {
    warn(context.reporter, report,
         {Severity::warning, "forced-kept", fmt::format("replaced modules stay loaded: {}", forced),
          "A task may still be in their code: plan a reboot of the guest."});
    return;
  }
  unload(context, report);
  prove_gone(context, report.replaced, how.mark, report);
}

void prove_gone(Context& context, const std::vector<std::string>& gone,
                const std::optional<GuestMark>& mark, Report& report) {
  if (context.introspection == nullptr) {
    return;
  }
  if (!mark) {
    warn(context.reporter, report,
         {Severity::warning, "not-proved",
          "what is left of them was not proved: guest memory could not be read before"});
    return;
  }
  const auto left = patiently(context, [&] {
    return context.introspection->leftovers(gone, report.unloaded, *mark, context.steady());
  });
  if (!left) {
    warn(context.reporter, report,
         {Severity::warning, "not-proved",
          "what is left of them was not proved from guest memory: " + left.error().what,
          left.error().hint});
    return;
  }
  if (!left->hooked.empty()) {
    warn(context.reporter, report,
         {Severity::warning, "still-hooked",
          fmt::format("no livepatch changes {} any more, yet something is hooked into it",
                      fmt::join(left->hooked, ", ")),
          "Another tracer (kprobes, fprobe, BPF, the function tracer) does that, too."});
  }
  if (!left->wrong.empty()) {
    report.conclude(
        Outcome::failed_needs_look,
        fmt::format("{}, but guest memory shows: {}", report.summary, left->wrong.front()),
        "Look at the guest with `vpatch status` and `vpatch log`.");
    return;
  }
  if (left->restored > 0) {
    context.reporter.step(fmt::format(
        "proved from guest memory: {} function(s) run their original code again", left->restored));
  }
}

}  // namespace vpatch

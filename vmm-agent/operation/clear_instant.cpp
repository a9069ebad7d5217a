// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/clear_instant.h"

#include <utility>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kLookAgain{10};

Result<Forecast> look(Context& context, const ClearInstant& wanted) {
  if (wanted.unblocked) {
    auto forecast = context.introspection->forecast(wanted.file, context.interruptible());
    if (!forecast || forecast->blockers.count > 0 || wanted.quiesced.empty()) {
      return forecast;
    }
  }
  return context.introspection->occupants(wanted.quiesced, context.interruptible());
}

std::unexpected<Error> give_up(const ClearInstant& wanted, const std::string& why) {
  return fail(Outcome::refused,
              fmt::format("not loaded: there was no clear instant in {:.3g} s: {}",
                          std::chrono::duration<double>(wanted.limit).count(), why),
              "Wait longer with --when-clear=TIME, or load without it.");
}

}  // namespace

Result<void> wait_for_clear_instant(Context& context, const ClearInstant& wanted,
                                    PendingTasks& in_the_way) {
  if (context.introspection == nullptr) {
    return give_up(wanted, "guest memory cannot be read, so nothing is known of its tasks");
  }
  if (context.assistance != nullptr) {
    context.assistance->prepare(context.stop);
  }
  const auto start = context.clock.now();
  for (;;) {
    auto seen = look(context, wanted);
    if (context.stop.stop_requested()) {
      return fail(Outcome::refused, "interrupted");
    }
    if (seen && seen->blockers.count == 0) {
      in_the_way = {};
      return {};
    }
    const std::string who =
        !seen || seen->blockers.first.empty() ? "" : describe(seen->blockers.first.front());
    if (context.clock.now() - start >= wanted.limit) {
      if (!seen) {
        return give_up(wanted, seen.error().what);
      }
      in_the_way = std::move(seen->blockers);
      return give_up(wanted,
                     fmt::format("{} task(s) are in the way, such as {}", in_the_way.count, who));
    }
    if (!who.empty()) {
      context.reporter.progress("waiting for an instant without " + who);
    }
    context.clock.wait(kLookAgain, context.stop);
  }
}

}  // namespace vpatch

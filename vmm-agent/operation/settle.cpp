// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/settle.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "vmm-agent/operation/log_trouble.h"
#include "vmm-agent/operation/patience.h"

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{1000};

Result<void> look(Context& context, const std::string& log_mark, Report& report) {
  const auto state = observe_patiently(context);
  if (!state) {
    return fail(Outcome::failed_needs_look, "the guest fell silent: " + state.error().what);
  }
  if (state->boot_id != report.boot_id) {
    return fail(Outcome::failed_needs_look, "the guest has rebooted");
  }
  return look_at_log(context, log_mark, report);
}

void watch(Context& context, const std::string& log_mark, std::chrono::milliseconds settle,
           Report& report) {
  const auto end = context.clock.now() + settle;
  for (auto now = context.clock.now(); now < end; now = context.clock.now()) {
    context.reporter.progress(
        fmt::format("watching the guest for {:.0f} s",
                    std::ceil(std::chrono::duration<double>(end - now).count())));
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
    context.clock.wait(std::min(kBetweenLooks, left), context.stop);
    if (context.stop.stop_requested()) {
      context.reporter.step("the watch after the load was cut short");
      return;
    }
    if (const auto well = look(context, log_mark, report); !well) {
      report.conclude(Outcome::failed_needs_look,
                      fmt::format("{}: soon after {} was loaded, {}", context.domain, report.patch,
                                  well.error().what),
                      "Look at the guest; `vpatch revert` takes the patch back.");
      return;
    }
  }
  context.reporter.step(fmt::format("the guest was well for {:.0f} s",
                                    std::chrono::duration<double>(settle).count()));
}

}  // namespace

Report apply_and_watch(Context& context, const LivepatchFile& file, const ApplyOptions& options,
                       std::chrono::milliseconds settle) {
  // Before the load: nothing that the log says after it is missed.
  const auto mark = context.guest.log_mark(context.steady());
  if (!mark) {
    Report report;
    report.patch = file.name;
    report.conclude(mark.error().outcome, fmt::format("{}: {}", context.domain, mark.error().what),
                    mark.error().hint);
    return report;
  }
  Report report = apply(context, file, options);
  if (report.outcome == Outcome::done && report.loaded && settle.count() > 0) {
    watch(context, *mark, settle, report);
  }
  return report;
}

}  // namespace vpatch

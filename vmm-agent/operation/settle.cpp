// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/settle.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/patience.h"

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{1000};

struct Trouble {
  std::string text;  ///< empty: there is none
  std::vector<std::string> kernel_log{};
};

Trouble look(Context& context, const std::string& boot_id, const std::string& log_mark) {
  const auto state = observe_patiently(context);
  if (!state) {
    return {.text = "the guest fell silent: " + state.error().what};
  }
  if (state->boot_id != boot_id) {
    return {.text = "the guest has rebooted"};
  }
  auto lines =
      patiently(context, [&] { return context.guest.log_since(log_mark, context.steady()); });
  if (!lines) {
    return {.text = "the kernel log could not be read: " + lines.error().what};
  }
  const auto trouble = trouble_in_log(*lines);
  if (trouble.empty()) {
    return {};
  }
  return {.text = "the kernel log tells of trouble: " + trouble.front(),
          .kernel_log = *std::move(lines)};
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
    if (auto trouble = look(context, report.boot_id, log_mark); !trouble.text.empty()) {
      report.kernel_log = std::move(trouble.kernel_log);
      report.conclude(Outcome::failed_needs_look,
                      fmt::format("{}: soon after {} was loaded, {}", context.domain, report.patch,
                                  trouble.text),
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

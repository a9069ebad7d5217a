// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/log_trouble.h"

#include <utility>

#include "vmm-agent/operation/patience.h"

namespace vpatch {

Result<void> look_at_log(Context& context, const std::string& mark, Report& report) {
  auto lines = patiently(context, [&] { return context.guest.log_since(mark, context.steady()); });
  if (!lines) {
    return std::unexpected(std::move(lines.error()).in_context("the kernel log could not be read"));
  }
  if (const auto trouble = trouble_in_log(*lines); !trouble.empty()) {
    report.kernel_log = *std::move(lines);
    return fail(Outcome::failed_needs_look, "the kernel log tells of trouble: " + trouble.front());
  }
  return {};
}

}  // namespace vpatch

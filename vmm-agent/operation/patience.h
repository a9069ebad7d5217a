// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// For how long an agent that fell silent is asked again, and how often.
inline constexpr std::chrono::milliseconds kPatience{30'000};
inline constexpr std::chrono::milliseconds kRetryAfterError{500};

/// Makes a call that may be repeated until it succeeds, or kPatience is over: an agent that
/// restarts, or one lost reply, must not leave the guest half done. At least two tries, however
/// long each takes.
template <class Call>
auto patiently(Context& context, const Call& call) -> decltype(call()) {
  const auto start = context.clock.now();
  for (bool first = true;; first = false) {
    auto result = call();
    if (result || (!first && context.clock.now() - start >= kPatience)) {
      return result;
    }
    context.clock.wait(kRetryAfterError, {});
  }
}

/// One look at the guest, patiently, and not cut short by Ctrl-C.
inline Result<GuestState> observe_patiently(Context& context) {
  return patiently(context, [&context] { return context.guest.observe(context.steady()); });
}

}  // namespace vpatch

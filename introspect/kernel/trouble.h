// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace vpatch::introspect {

/// Whether a text of the kernel's log tells of trouble: a BUG, WARNING or Oops, a fault, a lockup,
/// a hung task, a stall, a panic, memory that ran out, or the stack trace that goes with one. Any
/// line of the text counts.
///
/// A pure function of what the guest's kernel says, which any of its privileged users can write
/// too: good as an alarm, never as a proof of health.
bool is_trouble(std::string_view text);

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "introspect/kernel/kernel_log.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

struct LogOptions {
  std::optional<std::size_t> lines;  ///< only the newest so many records
  bool follow = false;               ///< go on with what the kernel writes until Ctrl-C
};

/// Is given the records as they come: first those that are there, then, with `follow`, new ones.
/// `lost` counts records that the kernel has overwritten before they could be read. False when
/// nobody wants more.
using LogSink = std::function<bool(const introspect::KernelLog& log)>;

/// Reads the guest's kernel log from its memory. A guest that reboots while it is followed starts
/// over with its new log.
Result<void> read_log(GuestView& view, const LogOptions& options, Clock& clock,
                      const qmp::CallOptions& calls, const LogSink& sink);

/// A record as dmesg prints it, one line for each of its lines: "[    1.234567] text\n".
std::string log_lines(const introspect::LogRecord& record);

}  // namespace vpatch

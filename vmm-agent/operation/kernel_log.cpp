// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/kernel_log.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kFollowEach{200};
constexpr std::size_t kAll = 1'000'000;

introspect::Result<introspect::KernelLog> read_from(GuestView& view, std::uint64_t from,
                                                    std::size_t most) {
  const auto& layout = view.kernel().layouts().log;
  if (!layout) {
    return std::unexpected(layout.error());
  }
  return introspect::read_kernel_log(view.kernel().memory(), *layout, from, most);
}

}  // namespace

std::string log_lines(const introspect::LogRecord& record) {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const std::string stamp =
      fmt::format("[{:5}.{:06}] ", record.time_ns / kSecond, record.time_ns % kSecond / 1000);
  std::string out;
  std::string_view text = record.text;
  for (;;) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += stamp;
    out += text.substr(0, end);
    out += '\n';
    if (end == text.size()) {
      return out;
    }
    text.remove_prefix(end + 1);
  }
}

Result<void> read_log(GuestView& view, const LogOptions& options, Clock& clock,
                      const qmp::CallOptions& calls, const LogSink& sink) {
  std::uint64_t stamp = view.kernel().facts().boot_stamp;
  std::uint64_t next = 0;
  bool first = true;
  std::size_t most = options.lines.value_or(kAll);
  for (;;) {
    auto log = read_from(view, next, most);
    if (log) {
      next = log->next_sequence;
      most = kAll;
      const bool news = first || log->lost > 0 || !log->records.empty();
      first = false;
      if (news && !sink(*log)) {
        return {};
      }
    } else if (!options.follow || log.error().code != introspect::Errc::torn) {
      return std::unexpected(from_introspect(log.error()).in_context(view.name()));
    }
    if (!options.follow || view.is_still()) {
      return {};
    }
    clock.wait(kFollowEach, calls.stop);
    if (calls.stop.stop_requested()) {
      return {};
    }
    if (auto done = view.refresh(calls); !done) {
      return done;
    }
    if (view.kernel().facts().boot_stamp != stamp) {
      stamp = view.kernel().facts().boot_stamp;
      next = 0;
    }
  }
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/progress_lines.h"

#include <utility>

#include <fmt/format.h>

#include "vmm-agent/cli/terminal.h"

namespace vpatch {
namespace {

std::string line_of(std::string_view kind, std::string_view text) {
  return fmt::format("{}{}\n", kind, harmless(std::string(text)));
}

}  // namespace

ProgressLines::ProgressLines(Write write, std::chrono::milliseconds least)
    : write_(std::move(write)),
      least_(least),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

// The thread is ended before what it works with.
ProgressLines::~ProgressLines() {
  thread_.request_stop();
  thread_.join();
}

void ProgressLines::progress(std::string_view text) {
  const std::scoped_lock lock(mutex_);
  waiting_ = text == last_ ? std::nullopt : std::optional(std::string(text));
  changed_.notify_all();
}

void ProgressLines::tell(std::string_view kind, std::string_view text) {
  const std::scoped_lock lock(mutex_);
  waiting_.reset();  // it is over
  last_.clear();
  write_(line_of(kind, text));
}

void ProgressLines::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return waiting_.has_value(); })) {
    // Meanwhile a newer text may take its place, or a step end it.
    changed_.wait_until(lock, stop, next_, [] { return false; });
    if (stop.stop_requested()) {
      return;
    }
    if (waiting_) {
      last_ = *std::move(waiting_);
      waiting_.reset();
      next_ = std::chrono::steady_clock::now() + least_;
      write_(line_of("progress: ", last_));
    }
  }
}

}  // namespace vpatch

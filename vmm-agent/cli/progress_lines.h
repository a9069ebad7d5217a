// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// Tells a program how an operation goes, in lines: "- step", "warning: text", "progress: text".
/// Of what goes on right now only changes are told, and no more often than every `least`: the
/// newest then, so that what lasts is told. Any thread.
class ProgressLines final : public Reporter {
 public:
  using Write = std::function<void(const std::string& line)>;

  explicit ProgressLines(Write write, std::chrono::milliseconds least);
  ~ProgressLines() override;

  void step(std::string_view text) override { tell("- ", text); }
  void warning(std::string_view text) override { tell("warning: ", text); }
  void progress(std::string_view text) override;

 private:
  void tell(std::string_view kind, std::string_view text);
  void run(const std::stop_token& stop);

  Write write_;
  std::chrono::milliseconds least_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<std::string> waiting_;            ///< progress that is to be told
  std::string last_;                              ///< progress that was told, since the last step
  std::chrono::steady_clock::time_point next_{};  ///< no progress before
  std::jthread thread_;
};

}  // namespace vpatch

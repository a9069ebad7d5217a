// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <optional>
#include <string_view>

#include <boost/json.hpp>

#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// One operation's entry in the journal. A journal that fails is told of once, as a warning, and
/// then done without: it never keeps a guest from being mended. event() may be called from any
/// thread, the rest from the reporter's.
class Recorder {
 public:
  explicit Recorder(Reporter& reporter) : reporter_(reporter) {}

  /// The version of vpatch is filled in.
  void begin(OperationStart start);
  void event(std::string_view kind, const boost::json::object& detail);
  /// The report's findings, who was waited for, and the end. `guest_release` as far as it is known.
  void end(const Report& report, const std::string& guest_release);

 private:
  void warn();

  Reporter& reporter_;
  std::mutex mutex_;
  std::optional<Journal> journal_;
  std::optional<Error> failed_;  // to be told of
  OperationId operation_{};
};

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// One operation's entry in the journal, and a reporter that puts what it is told there too. A
/// journal that fails is told of once, as a warning, and then done without: it never keeps a guest
/// from being mended. event() may be called from any thread, the rest from the reporter's.
class Recorder final : public Reporter {
 public:
  explicit Recorder(Reporter& reporter) : reporter_(reporter) {}

  /// The version of vpatch is filled in. Without it, nothing is recorded, and nothing is missed.
  void begin(OperationStart start);
  /// Whether the journal took it.
  bool event(std::string_view kind, const boost::json::object& detail);
  /// The report's findings, who was waited for, and the end. `guest_release` as far as it is known.
  void end(const Report& report, const std::string& guest_release);

  /// Between begin() and end(). False when the journal does not take it.
  bool register_patch(const Registration& registration, std::span<const std::byte> file);
  /// Whether there was such a registration, and is none now.
  bool unregister_patch(const std::string& identity, const std::string& patch);
  /// Those of one domain; none when the journal cannot be read.
  std::vector<Registration> registrations(const std::string& identity);

  /// Why the journal does not hold all of the operation; after end().
  const std::optional<Error>& failure() const { return failure_; }

  void step(std::string_view text) override;
  void progress(std::string_view text) override { reporter_.progress(text); }
  void warning(std::string_view text) override;
  bool record(std::string_view kind, const boost::json::object& detail) override;

 private:
  template <class T>
  void note_failure(const Result<T>& done);
  bool write(std::string_view kind, const boost::json::object& detail);
  void write_end(const OperationEnd& end);
  void warn();

  Reporter& reporter_;
  std::mutex mutex_;
  std::optional<Journal> journal_;
  OperationId operation_{};
  std::optional<Error> failure_;  // the first
  std::uint64_t lost_ = 0;        // events that the journal did not take
  bool told_ = false;
};

}  // namespace vpatch

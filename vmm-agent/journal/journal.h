// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "vmm-agent/error.h"

namespace SQLite {
class Database;
}

namespace vpatch {

enum class OperationId : std::int64_t {};

/// What is known when an operation begins; texts that are not known are empty.
struct OperationStart {
  std::string verb{};    ///< "apply"
  std::string domain{};  ///< as the user knows it
  std::string identity{};
  std::string patch{};  ///< name of the livepatch
  std::string file_sha256{};
  std::string patch_build_id{};
  std::string vpatch_version{};
  std::string guest_release{};
  std::string boot_id{};

  bool operator==(const OperationStart&) const = default;
};

/// How it ended. Its exit code is the outcome's.
struct OperationEnd {
  Outcome outcome = Outcome::internal;
  std::string summary{};
  std::optional<std::uint64_t> transition_us{};
  std::optional<std::uint64_t> pause_us{};  ///< of all pauses together
  std::uint64_t pauses = 0;
  std::uint64_t retries = 0;
  std::uint64_t signals = 0;
  std::uint64_t switches = 0;
  /// Learned meanwhile; an empty one leaves what begin() was told.
  std::string patch{};
  std::string guest_release{};
  std::string boot_id{};

  bool operator==(const OperationEnd&) const = default;
};

struct StoredOperation {
  OperationId id{};
  std::string started_at;  ///< UTC: "2026-11-21T09:41:23.000017Z"
  std::string user;        ///< login name; behind sudo, of who called it
  OperationStart start;
  std::string ended_at;             ///< empty without `end`
  std::optional<OperationEnd> end;  ///< none: under way, or its process died
};

struct StoredEvent {
  std::int64_t sequence = 0;  ///< from 1
  std::string at;
  std::string kind;
  boost::json::object detail;
};

/// The record of what vpatch was asked to do to the guests of this host and what it saw: one SQLite
/// file, which several processes may write at once. It says what was intended and seen; the truth
/// is in the guest, so a journal that fails is a warning and never a reason to stop.
///
/// Every call writes to disk and may wait for another writer: never call it while a VM is paused.
/// An entry survives the end of this process at once, and a crash of the host a little later.
/// Errors (Outcome::refused) name the file and what to do. One caller at a time.
class Journal {
 public:
  static constexpr const char* kDefaultPath = "/var/lib/vpatch/journal.db";
  static constexpr std::chrono::milliseconds kPatience{2000};

  /// The file that VPATCH_JOURNAL names, or the default.
  static std::filesystem::path path();

  /// Opens the journal; makes the file (for its owner only) and the folder around it if missing.
  /// `patience` bounds each wait for other writers.
  static Result<Journal> open(const std::filesystem::path& path,
                              std::chrono::milliseconds patience = kPatience);

  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&& other) noexcept;
  ~Journal();

  Result<OperationId> begin(const OperationStart& start);
  /// `kind` is a word such as "pause"; events of one operation are numbered in the order of calls.
  Result<void> event(OperationId operation, std::string_view kind,
                     const boost::json::object& detail);
  /// Once for each operation; an error for one that has ended.
  Result<void> end(OperationId operation, const OperationEnd& end);

  /// The newest first, at most `limit`.
  Result<std::vector<StoredOperation>> operations(std::size_t limit);
  /// In their order; none for an operation that is not there.
  Result<std::vector<StoredEvent>> events(OperationId operation);

 private:
  Journal(std::unique_ptr<SQLite::Database> database, std::filesystem::path path);

  template <class Function>
  auto attempt(std::string_view what, const Function& function) -> decltype(function());

  std::unique_ptr<SQLite::Database> database_;
  std::filesystem::path path_;
};

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "vmm-agent/error.h"
#include "vmm-agent/journal/chain.h"

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
  std::string patch{};          ///< name of the livepatch
  std::string patch_version{};  ///< MODULE_VERSION
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

/// Which operations; what is empty or unset leaves none out.
struct OperationFilter {
  std::optional<OperationId> id{};
  std::string domain{};  ///< by name or identity
  std::string patch{};
  std::string verb{};
  std::optional<Outcome> outcome{};
  bool failed = false;  ///< those that did not end as done, or not at all
  std::string since{};  ///< begun then or later, as StoredOperation::started_at
  std::string until{};  ///< begun before then
  std::size_t limit = 50;
};

/// The first event of an operation is "begin" and, once it has ended, its last one "end".
struct StoredEvent {
  std::int64_t sequence = 0;  ///< from 1
  std::string at;
  std::string kind;
  boost::json::object detail;
};

/// A livepatch that a domain is to have again after a reboot.
struct Registration {
  std::string identity{};    ///< Domain::identity()
  std::string domain{};      ///< as the user knows it
  std::string connection{};  ///< libvirt's URI, or the monitor socket of a plain QEMU
  std::string patch{};
  std::string patch_version{};
  std::string file{};  ///< where it was read from
  std::string file_sha256{};
  std::string release{};  ///< of the kernel it was built for

  bool operator==(const Registration&) const = default;
};

/// Of whom: an empty text leaves nobody out.
struct RegistrationFilter {
  std::string identity{};
  std::string connection{};
};

/// The record of what vpatch was asked to do to the guests of this host and what it saw: one SQLite
/// file, which several processes may write at once. It says what was intended and seen; the truth
/// is in the guest, so a journal that fails is a warning and never a reason to stop.
///
/// Every call writes to disk and may wait for another writer: never call it while a VM is paused.
/// An entry survives the end of this process at once, and a crash of the host a little later.
/// Errors (Outcome::refused) name the file and what to do; also of a file that was removed
/// meanwhile. One caller at a time.
///
/// Every event is a link of a chain of hashes (chain.h).
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
  /// Of a detail above kMaxDetail (chain.h), its size alone is kept.
  Result<void> event(OperationId operation, std::string_view kind,
                     const boost::json::object& detail);
  /// Once for each operation; an error for one that has ended.
  Result<void> end(OperationId operation, const OperationEnd& end);

  /// The newest first.
  Result<std::vector<StoredOperation>> operations(const OperationFilter& filter);
  /// Those begun after that one, the oldest first: to follow a journal.
  Result<std::vector<StoredOperation>> operations_after(OperationId operation, std::size_t limit);
  /// In their order; none for an operation that is not there.
  Result<std::vector<StoredEvent>> events(OperationId operation);

  /// Registers a livepatch in place of the one of the same name that the domain may have, and keeps
  /// a copy of its file beside the journal.
  Result<void> register_patch(OperationId operation, const Registration& registration,
                              std::span<const std::byte> file);
  /// Takes that back; false when there was nothing to take back.
  Result<bool> unregister_patch(OperationId operation, const std::string& identity,
                                const std::string& patch);
  /// Those of one domain in the order in which they were registered first.
  Result<std::vector<Registration>> registrations(const RegistrationFilter& filter);
  /// Where register_patch() keeps a file.
  std::filesystem::path copy_of(const std::string& file_sha256) const;
  /// The newest operation that began to load this file into that domain.
  Result<std::optional<StoredOperation>> last_load(const std::string& identity,
                                                   const std::string& file_sha256);
  /// The kernel that the newest operation on that domain has seen there, of those that have seen
  /// one.
  Result<std::optional<std::string>> last_release(const std::string& identity);

  /// Holds all entries against the chain, and the rest against the entries; and looks for damage of
  /// the file itself.
  Result<Verification> verify();
  /// Gives `take` the journal's lines as chain.h describes them, the closing line included, until
  /// it returns false. Damage is not hidden: verify_export() finds it.
  Result<void> export_lines(const std::function<bool(const std::string& line)>& take);

 private:
  Journal(std::unique_ptr<SQLite::Database> database, std::filesystem::path path);

  /// The boundary where exceptions end; attempt.h.
  template <class Function>
  auto attempt(std::string_view what, const Function& function) const -> decltype(function());
  /// The same for what writes: in a transaction of its own.
  template <class Function>
  auto attempt_to_write(std::string_view what, const Function& function) -> decltype(function());
  void remove_unneeded_copy(const std::string& file_sha256);

  std::unique_ptr<SQLite::Database> database_;
  std::filesystem::path path_;
};

}  // namespace vpatch

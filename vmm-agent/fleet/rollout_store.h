// SPDX-License-Identifier: Apache-2.0
// Rollouts in the journal's file: what was asked for, how far it is, and what was seen on the way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/engine.h"

namespace SQLite {
class Database;
}

namespace vpatch::fleet {

enum class RolloutId : std::int64_t {};
enum class CommandId : std::int64_t {};

/// A livepatch file that a rollout puts in force, or puts back. Its bytes lie beside the journal
/// (Journal::copy_of()).
struct RolloutFile {
  std::string path{};    ///< where it was read from
  std::string sha256{};  ///< lower-case hexadecimal
  std::string patch{};   ///< name of the livepatch
  std::string build_id{};
  std::string release{};  ///< of the kernel it was built for

  bool operator==(const RolloutFile&) const = default;
};

/// What a domain's health is held against: how it was just before its apply.
struct HealthMark {
  std::string boot_id{};
  std::uint64_t log_sequence = 0;  ///< the first record of its kernel log that counts
  std::uint64_t taint = 0;

  bool operator==(const HealthMark&) const = default;
};

/// A domain of a rollout. Its place in the list is its rollout::DomainId.
struct RolloutDomain {
  std::string connection{};  ///< libvirt URI, as the plan has it
  std::string name{};
  std::string identity{};             ///< its UUID
  std::string release{};              ///< of its kernel when the rollout began; empty: not known
  std::uint32_t wave = 0;             ///< 0: the canary's
  std::optional<std::size_t> file{};  ///< of StoredRollout::files; none where no file is for it
  rollout::DomainRecord record{};
  std::optional<HealthMark> mark{};
  /// SHA-256 of the files that were in force before, in their order; kept beside the journal.
  std::vector<std::string> former{};
  /// What the verbs printed last, cut to what a report needs; null when there is none.
  std::optional<boost::json::object> apply_report{}, revert_report{}, health_report{};
};

/// What is known when a rollout begins.
struct NewRollout {
  std::string name{};
  std::string plan{};  ///< YAML, by rollout::to_yaml()
  std::string seed{};
  std::string vpatch_version{};
  std::vector<RolloutFile> files{};
  std::vector<RolloutDomain> domains{};
};

struct StoredRollout {
  RolloutId id{};
  std::string started_at{};  ///< UTC: "2026-11-21T09:41:23.000017Z"
  std::string ended_at{};    ///< when it finished last; empty: it has not
  std::string user{};
  NewRollout begin{};  ///< with the domains as they are now
  rollout::RolloutRecord record{};
};

/// One line of the list of rollouts.
struct RolloutLine {
  RolloutId id{};
  std::string name{}, started_at{}, ended_at{}, user{};
  rollout::RolloutRecord record{};
  rollout::StateCounts domains{};
};

/// Something that happened, for the timeline.
struct RolloutEvent {
  std::string at{};                           ///< UTC
  std::optional<rollout::DomainId> domain{};  ///< none: of the rollout itself
  /// A domain's new state ("applying", ...), or of the rollout: "started", "wave", "paused",
  /// "resumed", "aborted", "rollback", "finished", "connection-lost", "connection-up", "driver"
  std::string kind{};
  std::string text{};
};

/// What an operator asked of a rollout that another process drives.
struct StoredCommand {
  CommandId id{};
  rollout::Command command{};
};

/// Another unfinished rollout that holds one of the domains: it has a file for it.
struct Overlap {
  std::string rollout{};
  std::string domain{};
};

/// One SQLite connection to the journal's file; one caller at a time. Errors: Outcome::refused, as
/// Journal's. Several processes may hold one.
///
/// What is written is on disk when a call returns: guests on other hosts outlive a crash of this
/// one. Texts are kept as they are, whatever bytes they have.
class RolloutStore {
 public:
  enum class ReportKind : std::uint8_t { apply, revert, health };
  enum class Reports : std::uint8_t { left_out, included };

  static Result<RolloutStore> open(const std::filesystem::path& journal);

  RolloutStore(RolloutStore&& other) noexcept;
  RolloutStore& operator=(RolloutStore&& other) noexcept;
  ~RolloutStore();

  /// Those of `identities` that an unfinished rollout holds: the first hundred.
  Result<std::vector<Overlap>> overlaps(std::span<const std::string> identities);
  /// Writes all of it in one transaction. Outcome::refused when the name is taken, or an unfinished
  /// rollout holds one of the domains.
  Result<RolloutId> create(const NewRollout& rollout);
  /// Keeps a file's bytes beside the journal, under its SHA-256. Outcome::refused when they have
  /// another. A copy that no rollout and no registration has in its row may be removed any time.
  Result<void> keep_file(const std::string& sha256, std::span<const std::byte> bytes);
  /// Those bytes. Outcome::refused when they are not there, or not those of that SHA-256.
  Result<std::vector<std::byte>> read_file(const std::string& sha256);

  /// The newest first.
  Result<std::vector<RolloutLine>> list();
  /// As it was at one moment. Reports can be as large as kLongestReport for each domain.
  Result<StoredRollout> load(const std::string& name, Reports reports = Reports::included);
  /// In their order, without the first `after`.
  Result<std::vector<RolloutEvent>> events(RolloutId rollout, std::size_t after = 0);

  /// Journals a step of the engine, and the events that come of it, in one transaction. A record
  /// that has finished sets the rollout's end, one that has not takes it away.
  Result<void> save(RolloutId rollout, const rollout::Step& step,
                    std::span<const RolloutEvent> events);
  // Of one domain, each in a transaction of its own.
  Result<void> save_mark(RolloutId rollout, rollout::DomainId domain, const HealthMark& mark,
                         std::span<const std::string> former);
  Result<void> save_report(RolloutId rollout, rollout::DomainId domain, ReportKind kind,
                           const boost::json::object& report);
  Result<void> add_event(RolloutId rollout, const RolloutEvent& event);

  /// Leaves a command for the process that drives the rollout.
  Result<CommandId> ask(RolloutId rollout, const rollout::Command& command);
  /// Those that nobody has taken yet, in their order.
  Result<std::vector<StoredCommand>> commands(RolloutId rollout);
  /// Outcome::refused when it is taken.
  Result<void> take(CommandId command);
  Result<bool> was_taken(CommandId command);

 private:
  RolloutStore(std::unique_ptr<SQLite::Database> database, std::filesystem::path path);

  std::unique_ptr<SQLite::Database> database_;
  std::filesystem::path path_;
};

/// Bytes of JSON.
inline constexpr std::size_t kLongestReport = std::size_t{64} << 10;

/// What the record of a rollout needs of a report (docs/json.md) of a remote host: of `apply` and
/// `revert` what tells how it went, with the first entries of lists; of others all. At most
/// kLongestReport: the largest lists and objects of what is longer are left out.
boost::json::object brief(const boost::json::object& report);

}  // namespace vpatch::fleet

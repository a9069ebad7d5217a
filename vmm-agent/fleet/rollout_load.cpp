// SPDX-License-Identifier: Apache-2.0
// What the journal tells of rollouts.
#include <algorithm>
#include <array>
#include <limits>

#include <SQLiteCpp/SQLiteCpp.h>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/fleet/rollout_rows.h"
#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/journal/journal_file.h"
#include "vmm-agent/journal/kept_file.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostOverlaps = 100;
constexpr std::size_t kLongestFile = std::size_t{256} << 20;
constexpr std::array kReportKinds = {RolloutStore::ReportKind::apply,
                                     RolloutStore::ReportKind::revert,
                                     RolloutStore::ReportKind::health};

std::string text_in(SQLite::Statement& row, const char* column) {
  return row.getColumn(column).getString();
}

template <class Number = std::uint32_t>
Number number_in(SQLite::Statement& row, const char* column) {
  return static_cast<Number>(row.getColumn(column).getInt64());
}

std::optional<std::int64_t> optional_in(SQLite::Statement& row, const char* column) {
  const SQLite::Column value = row.getColumn(column);
  return value.isNull() ? std::nullopt : std::optional(value.getInt64());
}

rollout::Time time_of(std::int64_t seconds_since_1970) {
  return rollout::Time(std::chrono::seconds(seconds_since_1970));
}

std::unexpected<Error> not_known(const std::string& what) {
  return fail(Outcome::refused, what + " is not one that this vpatch knows",
              "Update vpatch, or look what has changed the journal.");
}

Result<rollout::RolloutRecord> record_of_rollout(SQLite::Statement& row) {
  const auto course = rollout::parse_course(text_in(row, "course"));
  const auto cause = rollout::parse_cause(text_in(row, "cause"));
  if (!course || !cause) {
    return not_known(fmt::format("course or cause of rollout {}", text_in(row, "name")));
  }
  rollout::RolloutRecord record{.course = *course,
                                .paused = number_in(row, "paused") != 0,
                                .finished = !row.getColumn("ended_at").isNull(),
                                .cause = *cause,
                                .text = text_in(row, "cause_text"),
                                .wave = number_in(row, "wave"),
                                .accepted = number_in(row, "accepted")};
  if (const auto domain = optional_in(row, "cause_domain")) {
    record.domain = static_cast<rollout::DomainId>(*domain);
  }
  if (const auto soak_until = optional_in(row, "soak_until")) {
    record.soak_until = time_of(*soak_until);
  }
  return record;
}

Result<rollout::DomainRecord> record_of_domain(SQLite::Statement& row) {
  const auto state = rollout::parse_domain_state(text_in(row, "state"));
  const auto before = rollout::parse_domain_state(text_in(row, "before"));
  if (!state || !before) {
    return not_known(fmt::format("the state of domain {}", number_in(row, "number")));
  }
  return rollout::DomainRecord{.state = *state,
                               .before = *before,
                               .touched = number_in(row, "touched") != 0,
                               .failure = number_in(row, "failure") != 0,
                               .attempts = number_in<std::uint8_t>(row, "attempts"),
                               .order = number_in(row, "place"),
                               .outcome = row.getColumn("outcome").isNull()
                                              ? std::nullopt
                                              : std::optional(outcome_of(text_in(row, "outcome"))),
                               .text = text_in(row, "text"),
                               .since = time_of(number_in<std::int64_t>(row, "since"))};
}

Result<RolloutDomain> domain_of(SQLite::Statement& row) {
  return map(record_of_domain(row), [&row](rollout::DomainRecord record) {
    RolloutDomain domain{.connection = text_in(row, "connection"),
                         .name = text_in(row, "name"),
                         .identity = text_in(row, "identity"),
                         .release = text_in(row, "release"),
                         .wave = number_in(row, "wave"),
                         .record = std::move(record)};
    if (const auto file = optional_in(row, "file")) {
      domain.file = static_cast<std::size_t>(*file);
    }
    if (!row.getColumn("boot_id").isNull()) {
      domain.mark =
          HealthMark{.boot_id = text_in(row, "boot_id"),
                     .log_sequence = from_column(row.getColumn("log_sequence").getInt64()),
                     .taint = from_column(row.getColumn("taint").getInt64())};
    }
    return domain;
  });
}

/// All rows of a table of one rollout, by their domains' or own numbers.
SQLite::Statement rows_of(SQLite::Database& database, const char* table, RolloutId rollout,
                          const char* order) {
  SQLite::Statement rows(
      database, fmt::format("SELECT * FROM {} WHERE rollout_id = ? ORDER BY {}", table, order));
  rows.bind(1, std::to_underlying(rollout));
  return rows;
}

std::vector<RolloutFile> files_of(SQLite::Database& database, RolloutId rollout) {
  SQLite::Statement rows = rows_of(database, "rollout_file", rollout, "number");
  std::vector<RolloutFile> files;
  while (rows.executeStep()) {
    files.push_back({.path = text_in(rows, "path"),
                     .sha256 = text_in(rows, "sha256"),
                     .patch = text_in(rows, "patch"),
                     .build_id = text_in(rows, "build_id"),
                     .release = text_in(rows, "release")});
  }
  return files;
}

Result<std::vector<RolloutDomain>> domains_of(SQLite::Database& database, RolloutId rollout,
                                              std::size_t files) {
  SQLite::Statement rows = rows_of(database, "rollout_domain", rollout, "number");
  std::vector<RolloutDomain> domains;
  while (rows.executeStep()) {
    auto domain = domain_of(rows);
    if (!domain) {
      return std::unexpected(std::move(domain.error()));
    }
    // A domain's number is its place, for the engine.
    if (number_in<std::size_t>(rows, "number") != domains.size() ||
        (domain->file && *domain->file >= files)) {
      return fail(Outcome::refused,
                  fmt::format("domain {} or its file is missing", domains.size()));
    }
    domains.push_back(*std::move(domain));
  }
  return domains;
}

void add_former(SQLite::Database& database, RolloutId rollout,
                std::vector<RolloutDomain>& domains) {
  SQLite::Statement rows = rows_of(database, "rollout_former", rollout, "domain, number");
  while (rows.executeStep()) {
    domains.at(number_in<std::size_t>(rows, "domain")).former.push_back(text_in(rows, "sha256"));
  }
}

/// Nothing when somebody put something else there: for a rollout that goes on, no report matters.
std::optional<json::object> report_of(const std::string& text) {
  json::parse_options options;
  options.allow_invalid_utf8 = true;  // names in a guest may be any bytes
  options.max_depth = 128;            // more than the protocol lets through
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) {
    return std::nullopt;
  }
  return std::move(value.get_object());
}

void add_reports(SQLite::Database& database, RolloutId rollout,
                 std::vector<RolloutDomain>& domains) {
  SQLite::Statement rows = rows_of(database, "rollout_report", rollout, "domain");
  while (rows.executeStep()) {
    RolloutDomain& domain = domains.at(number_in<std::size_t>(rows, "domain"));
    const std::string kind = text_in(rows, "kind");
    auto& report = kind == to_string(RolloutStore::ReportKind::apply)    ? domain.apply_report
                   : kind == to_string(RolloutStore::ReportKind::revert) ? domain.revert_report
                                                                         : domain.health_report;
    report = report_of(text_in(rows, "report"));
  }
}

rollout::StateCounts count_states(SQLite::Database& database, RolloutId rollout) {
  SQLite::Statement rows(
      database, "SELECT state, count(*) FROM rollout_domain WHERE rollout_id = ? GROUP BY state");
  rows.bind(1, std::to_underlying(rollout));
  rollout::StateCounts counts;
  while (rows.executeStep()) {
    if (const auto state = rollout::parse_domain_state(rows.getColumn(0).getString())) {
      counts.add(*state, rows.getColumn(1).getUInt());
    }
  }
  return counts;
}

Result<StoredRollout> rollout_of(SQLite::Statement& row) {
  return map(record_of_rollout(row), [&row](rollout::RolloutRecord record) {
    return StoredRollout{.id = RolloutId{number_in<std::int64_t>(row, "id")},
                         .started_at = text_in(row, "started_at"),
                         .ended_at = text_in(row, "ended_at"),
                         .user = text_in(row, "user"),
                         .begin = {.name = text_in(row, "name"),
                                   .plan = text_in(row, "plan"),
                                   .seed = text_in(row, "seed"),
                                   .vpatch_version = text_in(row, "vpatch_version")},
                         .record = std::move(record)};
  });
}

}  // namespace

std::string_view to_string(RolloutStore::ReportKind kind) {
  constexpr std::array<std::string_view, kReportKinds.size()> kWords = {"apply", "revert",
                                                                        "health"};
  return kWords.at(static_cast<std::size_t>(kind));
}

void find_overlaps(SQLite::Database& database, std::span<const std::string> identities,
                   std::vector<Overlap>& found) {
  SQLite::Statement rows(database, R"sql(
SELECT rollout.name, rollout_domain.name
FROM rollout_domain JOIN rollout ON rollout.id = rollout_domain.rollout_id
WHERE identity = ? AND file IS NOT NULL AND ended_at IS NULL
ORDER BY rollout.id)sql");
  for (const std::string& identity : identities) {
    rows.bind(1, identity);
    while (rows.executeStep()) {
      found.push_back(
          {.rollout = rows.getColumn(0).getString(), .domain = rows.getColumn(1).getString()});
      if (found.size() == kMostOverlaps) {
        return;
      }
    }
    rows.reset();
  }
}

Result<std::vector<Overlap>> RolloutStore::overlaps(std::span<const std::string> identities) {
  return attempt_on(path_, "read it", [&]() -> Result<std::vector<Overlap>> {
    const SQLite::Transaction all_of_one_moment(*database_);
    std::vector<Overlap> found;
    find_overlaps(*database_, identities, found);
    return found;
  });
}

Result<std::vector<std::byte>> RolloutStore::read_file(const std::string& sha256) {
  return attempt_on(path_, "read a livepatch",
                    [&] { return read_kept_file(path_, sha256, kLongestFile); });
}

Result<std::vector<RolloutLine>> RolloutStore::list() {
  return attempt_on(path_, "read it", [&]() -> Result<std::vector<RolloutLine>> {
    const SQLite::Transaction all_of_one_moment(*database_);
    SQLite::Statement rows(*database_, "SELECT * FROM rollout ORDER BY id DESC");
    std::vector<RolloutLine> lines;
    while (rows.executeStep()) {
      auto rollout = rollout_of(rows);
      if (!rollout) {
        return std::unexpected(std::move(rollout.error()));
      }
      lines.push_back({.id = rollout->id,
                       .name = rollout->begin.name,
                       .started_at = rollout->started_at,
                       .ended_at = rollout->ended_at,
                       .user = rollout->user,
                       .record = rollout->record,
                       .domains = count_states(*database_, rollout->id)});
    }
    return lines;
  });
}

Result<StoredRollout> RolloutStore::load(const std::string& name, Reports reports) {
  return attempt_on(path_, "read it", [&]() -> Result<StoredRollout> {
    const SQLite::Transaction all_of_one_moment(*database_);
    SQLite::Statement row(*database_, "SELECT * FROM rollout WHERE name = ?");
    row.bind(1, name);
    if (!row.executeStep()) {
      return fail(Outcome::refused, fmt::format("there is no rollout {}", name),
                  "`vpatch rollout list` shows all.");
    }
    auto rollout = rollout_of(row);
    if (!rollout) {
      return rollout;
    }
    rollout->begin.files = files_of(*database_, rollout->id);
    auto domains = domains_of(*database_, rollout->id, rollout->begin.files.size());
    if (!domains) {
      return std::unexpected(std::move(domains.error()));
    }
    add_former(*database_, rollout->id, *domains);
    if (reports == Reports::included) {
      add_reports(*database_, rollout->id, *domains);
    }
    rollout->begin.domains = *std::move(domains);
    return rollout;
  });
}

Result<std::vector<RolloutEvent>> RolloutStore::events(RolloutId rollout, std::size_t after) {
  return attempt_on(path_, "read it", [&]() -> Result<std::vector<RolloutEvent>> {
    SQLite::Statement rows(
        *database_,
        "SELECT * FROM rollout_event WHERE rollout_id = ? AND number >= ? ORDER BY number");
    rows.bind(1, std::to_underlying(rollout));
    rows.bind(2, static_cast<std::int64_t>(
                     std::min<std::size_t>(after, std::numeric_limits<std::int64_t>::max())));
    std::vector<RolloutEvent> events;
    while (rows.executeStep()) {
      const auto domain = optional_in(rows, "domain");
      events.push_back(
          {.at = text_in(rows, "at"),
           .domain = domain ? std::optional(static_cast<rollout::DomainId>(*domain)) : std::nullopt,
           .kind = text_in(rows, "kind"),
           .text = text_in(rows, "text")});
    }
    return events;
  });
}

Result<std::vector<StoredCommand>> RolloutStore::commands(RolloutId rollout) {
  return attempt_on(path_, "read it", [&]() -> Result<std::vector<StoredCommand>> {
    SQLite::Statement rows(*database_,
                           "SELECT id, kind, text FROM rollout_command "
                           "WHERE rollout_id = ? AND taken_at IS NULL ORDER BY id");
    rows.bind(1, std::to_underlying(rollout));
    std::vector<StoredCommand> commands;
    while (rows.executeStep()) {
      const auto kind = rollout::parse_command_kind(text_in(rows, "kind"));
      if (!kind) {
        return not_known(fmt::format("command {}", number_in<std::int64_t>(rows, "id")));
      }
      commands.push_back({.id = CommandId{number_in<std::int64_t>(rows, "id")},
                          .command = {.kind = *kind, .text = text_in(rows, "text")}});
    }
    return commands;
  });
}

Result<bool> RolloutStore::was_taken(CommandId command) {
  return attempt_on(path_, "read it", [&]() -> Result<bool> {
    SQLite::Statement row(*database_, "SELECT taken_at FROM rollout_command WHERE id = ?");
    row.bind(1, std::to_underlying(command));
    if (!row.executeStep()) {
      return fail(Outcome::refused,
                  fmt::format("there is no command {}", std::to_underlying(command)));
    }
    return !row.getColumn(0).isNull();
  });
}

}  // namespace vpatch::fleet

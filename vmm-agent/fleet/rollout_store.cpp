// SPDX-License-Identifier: Apache-2.0
// What is written of rollouts; rollout_load.cpp reads it.
#include "vmm-agent/fleet/rollout_store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/fleet/rollout_rows.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/journal/journal_file.h"
#include "vmm-agent/journal/kept_file.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

void bind_word(SQLite::Statement& statement, int index, std::string_view word) {
  statement.bind(index, std::string(word));
}

constexpr int kRecordColumns = 9;

/// state, before, touched, failure, attempts, place, outcome, text, since
void bind_record(SQLite::Statement& statement, int first, const rollout::DomainRecord& record) {
  bind_word(statement, first, to_string(record.state));
  bind_word(statement, first + 1, to_string(record.before));
  statement.bind(first + 2, record.touched ? 1 : 0);
  statement.bind(first + 3, record.failure ? 1 : 0);
  statement.bind(first + 4, std::int64_t{record.attempts});
  statement.bind(first + 5, std::int64_t{record.order});
  if (record.outcome) {
    bind_word(statement, first + 6, to_string(*record.outcome));
  } else {
    statement.bind(first + 6);
  }
  statement.bind(first + 7, record.text);
  statement.bind(first + 8, std::int64_t{record.since.time_since_epoch().count()});
}

/// boot_id, log_sequence, taint
void bind_mark(SQLite::Statement& statement, int first, const HealthMark& mark) {
  statement.bind(first, mark.boot_id);
  statement.bind(first + 1, as_column(mark.log_sequence));
  statement.bind(first + 2, as_column(mark.taint));
}

/// All that is written of one rollout within a transaction. Prepares each statement once.
class Writer {
 public:
  Writer(SQLite::Database& database, RolloutId rollout)
      : database_(database), rollout_(std::to_underlying(rollout)) {}

  void add_files(const std::vector<RolloutFile>& files) {
    SQLite::Statement insert(database_, "INSERT INTO rollout_file VALUES (?, ?, ?, ?, ?, ?, ?)");
    std::int64_t number = 0;
    for (const RolloutFile& file : files) {
      insert.bind(1, rollout_);
      insert.bind(2, number++);
      int index = 2;
      for (const std::string* text :
           {&file.path, &file.sha256, &file.patch, &file.build_id, &file.release}) {
        insert.bind(++index, *text);
      }
      insert.exec();
      insert.reset();
    }
  }

  void add_domains(const std::vector<RolloutDomain>& domains) {
    SQLite::Statement insert(database_,
                             "INSERT INTO rollout_domain VALUES "
                             "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    rollout::DomainId id = 0;
    for (const RolloutDomain& domain : domains) {
      insert.clearBindings();
      bind_domain(insert, id, domain);
      insert.exec();
      insert.reset();
      add_former(id, domain.former);
      add_report(id, RolloutStore::ReportKind::apply, domain.apply_report);
      add_report(id, RolloutStore::ReportKind::revert, domain.revert_report);
      add_report(id, RolloutStore::ReportKind::health, domain.health_report);
      ++id;
    }
  }

  Result<void> update_domains(const std::vector<rollout::DomainChange>& changes) {
    SQLite::Statement update(database_, R"sql(
UPDATE rollout_domain
SET state = ?, before = ?, touched = ?, failure = ?, attempts = ?, place = ?, outcome = ?, text = ?,
    since = ?
WHERE rollout_id = ? AND number = ?)sql");
    for (const rollout::DomainChange& change : changes) {
      bind_record(update, 1, change.record);
      update.bind(kRecordColumns + 1, rollout_);
      update.bind(kRecordColumns + 2, std::int64_t{change.domain});
      if (update.exec() != 1) {
        return no_domain(change.domain);
      }
      update.reset();
    }
    return {};
  }

  Result<void> update_rollout(const rollout::RolloutRecord& record) {
    // What has finished and is saved again keeps the time.
    SQLite::Statement update(database_, R"sql(
UPDATE rollout
SET ended_at = CASE WHEN ?2 THEN coalesce(ended_at, ?3) END, course = ?4, paused = ?5, cause = ?6,
    cause_domain = ?7, cause_text = ?8, wave = ?9, soak_until = ?10, accepted = ?11
WHERE id = ?1)sql");
    update.bind(1, rollout_);
    update.bind(2, record.finished ? 1 : 0);
    update.bind(3, now_utc());
    bind_word(update, 4, to_string(record.course));
    update.bind(5, record.paused ? 1 : 0);
    bind_word(update, 6, to_string(record.cause));
    if (record.domain) {
      update.bind(7, std::int64_t{*record.domain});
    }
    update.bind(8, record.text);
    update.bind(9, std::int64_t{record.wave});
    if (record.soak_until) {
      update.bind(10, std::int64_t{record.soak_until->time_since_epoch().count()});
    }
    update.bind(11, std::int64_t{record.accepted});
    if (update.exec() != 1) {
      return fail(Outcome::refused, fmt::format("there is no rollout {}", rollout_));
    }
    return {};
  }

  Result<void> update_mark(rollout::DomainId domain, const HealthMark& mark,
                           std::span<const std::string> former) {
    SQLite::Statement update(database_,
                             "UPDATE rollout_domain SET boot_id = ?, log_sequence = ?, taint = ? "
                             "WHERE rollout_id = ? AND number = ?");
    bind_mark(update, 1, mark);
    update.bind(4, rollout_);
    update.bind(5, std::int64_t{domain});
    if (update.exec() != 1) {
      return no_domain(domain);
    }
    SQLite::Statement remove(database_,
                             "DELETE FROM rollout_former WHERE rollout_id = ? AND domain = ?");
    remove.bind(1, rollout_);
    remove.bind(2, std::int64_t{domain});
    remove.exec();
    add_former(domain, former);
    return {};
  }

  void put_report(rollout::DomainId domain, RolloutStore::ReportKind kind,
                  const json::object& report) {
    SQLite::Statement insert(database_,
                             "INSERT OR REPLACE INTO rollout_report VALUES (?, ?, ?, ?)");
    insert.bind(1, rollout_);
    insert.bind(2, std::int64_t{domain});
    bind_word(insert, 3, to_string(kind));
    insert.bind(4, json::serialize(report));
    insert.exec();
  }

  void add_events(std::span<const RolloutEvent> events) {
    if (events.empty()) {
      return;
    }
    SQLite::Statement insert(database_, R"sql(
INSERT INTO rollout_event
SELECT ?1, coalesce(max(number) + 1, 0), ?2, ?3, ?4, ?5 FROM rollout_event WHERE rollout_id = ?1)sql");
    for (const RolloutEvent& event : events) {
      insert.clearBindings();
      insert.bind(1, rollout_);
      insert.bind(2, event.at);
      if (event.domain) {
        insert.bind(3, std::int64_t{*event.domain});
      }
      insert.bind(4, event.kind);
      insert.bind(5, event.text);
      insert.exec();
      insert.reset();
    }
  }

 private:
  void bind_domain(SQLite::Statement& insert, rollout::DomainId id,
                   const RolloutDomain& domain) const {
    insert.bind(1, rollout_);
    insert.bind(2, std::int64_t{id});
    insert.bind(3, domain.connection);
    insert.bind(4, domain.name);
    insert.bind(5, domain.identity);
    insert.bind(6, domain.release);
    insert.bind(7, std::int64_t{domain.wave});
    if (domain.file) {
      insert.bind(8, as_column(*domain.file));
    }
    bind_record(insert, 9, domain.record);
    if (domain.mark) {
      bind_mark(insert, 9 + kRecordColumns, *domain.mark);
    }
  }

  void add_former(rollout::DomainId domain, std::span<const std::string> former) {
    if (former.empty()) {
      return;
    }
    SQLite::Statement insert(database_, "INSERT INTO rollout_former VALUES (?, ?, ?, ?)");
    std::int64_t number = 0;
    for (const std::string& sha256 : former) {
      insert.bind(1, rollout_);
      insert.bind(2, std::int64_t{domain});
      insert.bind(3, number++);
      insert.bind(4, sha256);
      insert.exec();
      insert.reset();
    }
  }

  void add_report(rollout::DomainId domain, RolloutStore::ReportKind kind,
                  const std::optional<json::object>& report) {
    if (report) {
      put_report(domain, kind, *report);
    }
  }

  Result<void> no_domain(rollout::DomainId domain) const {
    return fail(Outcome::refused, fmt::format("rollout {} has no domain {}", rollout_, domain));
  }

  SQLite::Database& database_;
  std::int64_t rollout_;
};

bool is_taken(SQLite::Database& database, const std::string& name) {
  SQLite::Statement row(database, "SELECT 1 FROM rollout WHERE name = ?");
  row.bind(1, name);
  return row.executeStep();
}

std::int64_t insert_rollout(SQLite::Database& database, const NewRollout& rollout) {
  SQLite::Statement insert(database, R"sql(
INSERT INTO rollout (started_at, user, name, plan, seed, vpatch_version, course, cause, paused,
                     cause_text, wave, accepted)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0))sql");
  int index = 0;
  for (const std::string& text :
       {now_utc(), real_user(), rollout.name, rollout.plan, rollout.seed, rollout.vpatch_version,
        std::string(to_string(rollout::Course::forward)),
        std::string(to_string(rollout::Cause::none))}) {
    insert.bind(++index, text);
  }
  insert.exec();
  return database.getLastInsertRowid();
}

}  // namespace

RolloutStore::RolloutStore(std::unique_ptr<SQLite::Database> database, fs::path path)
    : database_(std::move(database)), path_(std::move(path)) {}
RolloutStore::RolloutStore(RolloutStore&& other) noexcept = default;
RolloutStore& RolloutStore::operator=(RolloutStore&& other) noexcept = default;
RolloutStore::~RolloutStore() = default;

Result<RolloutStore> RolloutStore::open(const fs::path& journal) {
  auto opened = attempt_on(journal, "open it", [&] {
    auto database = open_journal_file(journal, Journal::kPatience);
    if (database) {
      (*database)->exec("PRAGMA synchronous = FULL");
    }
    return database;
  });
  return map(std::move(opened), [&](std::unique_ptr<SQLite::Database> database) {
    return RolloutStore(std::move(database), journal);
  });
}

Result<RolloutId> RolloutStore::create(const NewRollout& rollout) {
  std::vector<std::string> held;
  for (const RolloutDomain& domain : rollout.domains) {
    if (domain.file) {
      held.push_back(domain.identity);
    }
  }
  return attempt_to_write_to(*database_, path_, "begin a rollout", [&]() -> Result<RolloutId> {
    if (is_taken(*database_, rollout.name)) {
      return fail(Outcome::refused, fmt::format("there was a rollout {} before", rollout.name),
                  "Give it another name.");
    }
    std::vector<Overlap> overlaps;
    find_overlaps(*database_, held, overlaps);
    if (!overlaps.empty()) {
      return fail(
          Outcome::refused,
          fmt::format("the unfinished rollout {} holds {}", overlaps.front().rollout,
                      json::serialize(json::value(overlaps.front().domain))),
          fmt::format("`vpatch rollout status {}` shows it; with on_overlap: queue this one "
                      "waits for it.",
                      overlaps.front().rollout));
    }
    const RolloutId id{insert_rollout(*database_, rollout)};
    Writer writer(*database_, id);
    writer.add_files(rollout.files);
    writer.add_domains(rollout.domains);
    return id;
  });
}

Result<void> RolloutStore::keep_file(const std::string& sha256, std::span<const std::byte> bytes) {
  return attempt_on(path_, "keep a livepatch", [&]() -> Result<void> {
    const std::string found = sha256_of(bytes);
    if (found != sha256) {  // the name of a file is made of it
      return fail(Outcome::refused, "its SHA-256 is " + found);
    }
    return vpatch::keep_file(kept_file(path_, sha256), bytes);
  });
}

Result<void> RolloutStore::save(RolloutId rollout, const rollout::Step& step,
                                std::span<const RolloutEvent> events) {
  if (step.domains.empty() && !step.rollout && events.empty()) {
    return {};
  }
  return attempt_to_write_to(*database_, path_, "save a rollout", [&]() -> Result<void> {
    Writer writer(*database_, rollout);
    if (auto updated = writer.update_domains(step.domains); !updated) {
      return updated;
    }
    if (step.rollout) {
      if (auto updated = writer.update_rollout(*step.rollout); !updated) {
        return updated;
      }
    }
    writer.add_events(events);
    return {};
  });
}

Result<void> RolloutStore::save_mark(RolloutId rollout, rollout::DomainId domain,
                                     const HealthMark& mark, std::span<const std::string> former) {
  return attempt_to_write_to(*database_, path_, "save what a domain was before", [&] {
    return Writer(*database_, rollout).update_mark(domain, mark, former);
  });
}

Result<void> RolloutStore::save_report(RolloutId rollout, rollout::DomainId domain, ReportKind kind,
                                       const json::object& report) {
  return attempt_to_write_to(*database_, path_, "save a report", [&]() -> Result<void> {
    Writer(*database_, rollout).put_report(domain, kind, report);
    return {};
  });
}

Result<void> RolloutStore::add_event(RolloutId rollout, const RolloutEvent& event) {
  return save(rollout, {}, {&event, 1});
}

Result<CommandId> RolloutStore::ask(RolloutId rollout, const rollout::Command& command) {
  return attempt_to_write_to(*database_, path_, "leave a command", [&]() -> Result<CommandId> {
    SQLite::Statement insert(
        *database_, "INSERT INTO rollout_command (rollout_id, at, kind, text) VALUES (?, ?, ?, ?)");
    insert.bind(1, std::to_underlying(rollout));
    insert.bind(2, now_utc());
    bind_word(insert, 3, to_string(command.kind));
    insert.bind(4, command.text);
    insert.exec();
    return CommandId{database_->getLastInsertRowid()};
  });
}

Result<void> RolloutStore::take(CommandId command) {
  return attempt_to_write_to(*database_, path_, "take a command", [&]() -> Result<void> {
    SQLite::Statement update(
        *database_, "UPDATE rollout_command SET taken_at = ? WHERE id = ? AND taken_at IS NULL");
    update.bind(1, now_utc());
    update.bind(2, std::to_underlying(command));
    if (update.exec() != 1) {
      return fail(Outcome::refused,
                  fmt::format("command {} does not wait", std::to_underlying(command)));
    }
    return {};
  });
}

}  // namespace vpatch::fleet

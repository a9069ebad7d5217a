// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/schema.h"

#include <array>
#include <string>

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Transaction.h>
#include <fmt/format.h>

#include "vmm-agent/journal/chain_table.h"

namespace vpatch {
namespace {

// Times are UTC, ISO 8601 with microseconds. A column without a value holds '' or NULL: '' where
// the text was not known, NULL where there is no number or the operation has not ended.
constexpr const char* kFirst = R"sql(
CREATE TABLE operation (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  started_at     TEXT NOT NULL,
  ended_at       TEXT,              -- NULL: under way, or its process died
  verb           TEXT NOT NULL,
  domain         TEXT NOT NULL,
  identity       TEXT NOT NULL,
  patch          TEXT NOT NULL,
  file_sha256    TEXT NOT NULL,
  patch_build_id TEXT NOT NULL,
  user           TEXT NOT NULL,
  vpatch_version TEXT NOT NULL,
  guest_release  TEXT NOT NULL,
  boot_id        TEXT NOT NULL,
  outcome        TEXT,
  exit_code      INTEGER,
  summary        TEXT,
  transition_us  INTEGER,
  pause_us       INTEGER,
  pauses         INTEGER,
  retries        INTEGER,
  signals        INTEGER,
  switches       INTEGER
) STRICT;

CREATE TABLE event (
  operation_id INTEGER NOT NULL REFERENCES operation (id),
  sequence     INTEGER NOT NULL,    -- from 1, without gaps
  at           TEXT NOT NULL,
  kind         TEXT NOT NULL,
  detail       TEXT NOT NULL CHECK (json_valid(detail)),
  PRIMARY KEY (operation_id, sequence)
) STRICT, WITHOUT ROWID;
)sql";

// Operations begin and end with an event, and each event is a link of a chain (chain.h).
constexpr const char* kChained = R"sql(
ALTER TABLE operation ADD COLUMN patch_version TEXT NOT NULL DEFAULT '';

ALTER TABLE event RENAME TO old_event;
CREATE TABLE event (
  operation_id INTEGER NOT NULL REFERENCES operation (id),
  sequence     INTEGER NOT NULL,    -- from 1, without gaps
  at           TEXT NOT NULL,
  kind         TEXT NOT NULL,
  detail       TEXT NOT NULL CHECK (json_valid(detail)),
  link         INTEGER NOT NULL UNIQUE,  -- from 1, without gaps
  hash         TEXT NOT NULL,       -- of the event as a line
  PRIMARY KEY (operation_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE chain_head (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  links INTEGER NOT NULL,
  hash  TEXT NOT NULL               -- of the last link
) STRICT;
)sql";

// Livepatches that a domain is to have again after a reboot. Those of one domain are put in force
// in the order of their ids.
constexpr const char* kRegistrations = R"sql(
CREATE TABLE registration (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  operation_id  INTEGER NOT NULL REFERENCES operation (id),
  at            TEXT NOT NULL,
  identity      TEXT NOT NULL,
  domain        TEXT NOT NULL,
  connection    TEXT NOT NULL,
  patch         TEXT NOT NULL,
  patch_version TEXT NOT NULL,
  file          TEXT NOT NULL,
  file_sha256   TEXT NOT NULL,
  release       TEXT NOT NULL,
  UNIQUE (identity, patch)
) STRICT;
)sql";

// Rollouts over many domains (vmm-agent/fleet/rollout_store.h). No links of the chain: what each
// verb did to a guest is an operation in the journal of that guest's host. Texts of domains come
// from other hosts and from guests. Numbers of a rollout's files, domains and events are from 0,
// without gaps; times in seconds are since 1970, UTC.
constexpr const char* kRollouts = R"sql(
CREATE TABLE rollout (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  name           TEXT NOT NULL UNIQUE,
  started_at     TEXT NOT NULL,
  ended_at       TEXT,              -- NULL: not finished
  user           TEXT NOT NULL,
  vpatch_version TEXT NOT NULL,
  plan           TEXT NOT NULL,     -- YAML
  seed           TEXT NOT NULL,
  course         TEXT NOT NULL,
  paused         INTEGER NOT NULL,
  cause          TEXT NOT NULL,
  cause_domain   INTEGER,
  cause_text     TEXT NOT NULL,
  wave           INTEGER NOT NULL,  -- the one at work
  soak_until     INTEGER,           -- in seconds
  accepted       INTEGER NOT NULL
) STRICT;

-- Its bytes lie in patches/ beside the journal.
CREATE TABLE rollout_file (
  rollout_id INTEGER NOT NULL REFERENCES rollout (id),
  number     INTEGER NOT NULL,
  path       TEXT NOT NULL,
  sha256     TEXT NOT NULL,
  patch      TEXT NOT NULL,
  build_id   TEXT NOT NULL,
  release    TEXT NOT NULL,
  PRIMARY KEY (rollout_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_file_sha256 ON rollout_file (sha256);

CREATE TABLE rollout_domain (
  rollout_id   INTEGER NOT NULL REFERENCES rollout (id),
  number       INTEGER NOT NULL,
  connection   TEXT NOT NULL,
  name         TEXT NOT NULL,
  identity     TEXT NOT NULL,
  release      TEXT NOT NULL,
  wave         INTEGER NOT NULL,
  file         INTEGER,             -- NULL: none is for its kernel
  state        TEXT NOT NULL,
  before       TEXT NOT NULL,
  touched      INTEGER NOT NULL,
  failure      INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  place        INTEGER NOT NULL,    -- the so-manieth to be patched, from 1; 0: it was not
  outcome      TEXT,
  text         TEXT NOT NULL,
  since        INTEGER NOT NULL,    -- in seconds
  boot_id      TEXT,                -- NULL, as the next two: not looked at before its apply
  log_sequence INTEGER,             -- 64 bits without a sign, as the next
  taint        INTEGER,
  PRIMARY KEY (rollout_id, number),
  FOREIGN KEY (rollout_id, file) REFERENCES rollout_file (rollout_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_domain_identity ON rollout_domain (identity) WHERE file IS NOT NULL;
CREATE INDEX rollout_domain_state ON rollout_domain (rollout_id, state);

-- The files that were in force in a domain before, in their order.
CREATE TABLE rollout_former (
  rollout_id INTEGER NOT NULL,
  domain     INTEGER NOT NULL,
  number     INTEGER NOT NULL,
  sha256     TEXT NOT NULL,
  PRIMARY KEY (rollout_id, domain, number),
  FOREIGN KEY (rollout_id, domain) REFERENCES rollout_domain (rollout_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_former_sha256 ON rollout_former (sha256);

-- What a verb printed last. Not in rollout_domain, of which each change writes a whole row.
CREATE TABLE rollout_report (
  rollout_id INTEGER NOT NULL,
  domain     INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  report     TEXT NOT NULL CHECK (json_valid(report)),
  PRIMARY KEY (rollout_id, domain, kind),
  FOREIGN KEY (rollout_id, domain) REFERENCES rollout_domain (rollout_id, number)
) STRICT;

CREATE TABLE rollout_event (
  rollout_id INTEGER NOT NULL REFERENCES rollout (id),
  number     INTEGER NOT NULL,
  at         TEXT NOT NULL,
  domain     INTEGER,               -- NULL: of the rollout itself
  kind       TEXT NOT NULL,
  text       TEXT NOT NULL,
  PRIMARY KEY (rollout_id, number)
) STRICT, WITHOUT ROWID;

-- What operators ask of the process that drives a rollout.
CREATE TABLE rollout_command (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  rollout_id INTEGER NOT NULL REFERENCES rollout (id),
  at         TEXT NOT NULL,
  kind       TEXT NOT NULL,
  text       TEXT NOT NULL,
  taken_at   TEXT                   -- NULL: not yet
) STRICT;
CREATE INDEX rollout_command_waiting ON rollout_command (rollout_id) WHERE taken_at IS NULL;
)sql";

constexpr std::array<Migration, 4> kMigrations = {Migration{kFirst, nullptr},
                                                  {kChained, chain_old_events},
                                                  {kRegistrations, nullptr},
                                                  {kRollouts, nullptr}};

int pragma(SQLite::Database& database, const char* name) {
  return database.execAndGet(fmt::format("PRAGMA {}", name)).getInt();
}

/// The file's version; 0 for an empty one. Within a transaction.
Result<std::size_t> version_of(SQLite::Database& database, std::size_t newest) {
  const int version = pragma(database, "user_version");
  const int id = pragma(database, "application_id");
  const bool empty = id == 0 && version == 0 &&
                     database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0;
  if (id != kJournalApplicationId && !empty) {
    return fail(Outcome::refused, "it is a database, but not a journal of vpatch",
                "Name another file with VPATCH_JOURNAL.");
  }
  if (version < 0 || static_cast<std::size_t>(version) > newest) {
    return fail(Outcome::refused,
                fmt::format("a newer vpatch made it: its layout is version {}, and this vpatch "
                            "knows none after {}",
                            version, newest),
                "Update vpatch, or name another file with VPATCH_JOURNAL.");
  }
  return static_cast<std::size_t>(version);
}

}  // namespace

std::span<const Migration> journal_migrations() {
  return kMigrations;
}

Result<void> migrate(SQLite::Database& database, std::span<const Migration> migrations) {
  while (true) {
    {
      // Without a look first, each opening would wait for a writer. A transaction, since another
      // program may make the tables right now.
      const SQLite::Transaction look(database);
      auto version = version_of(database, migrations.size());
      if (!version) {
        return std::unexpected(std::move(version.error()));
      }
      if (*version == migrations.size()) {
        return {};
      }
    }
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    const auto version = version_of(database, migrations.size());
    if (version && *version < migrations.size()) {
      const Migration& migration = migrations[*version];
      database.exec(migration.sql);
      if (migration.then != nullptr) {
        migration.then(database);
      }
      database.exec(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                                kJournalApplicationId, *version + 1));
    }
    transaction.commit();
  }
}

}  // namespace vpatch

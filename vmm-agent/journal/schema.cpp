// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/schema.h"

#include <array>
#include <string>

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Transaction.h>
#include <fmt/format.h>

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

constexpr std::array kMigrations = {kFirst};

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

std::span<const char* const> journal_migrations() {
  return kMigrations;
}

Result<void> migrate(SQLite::Database& database, std::span<const char* const> migrations) {
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
      database.exec(migrations[*version]);
      database.exec(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                                kJournalApplicationId, *version + 1));
    }
    transaction.commit();
  }
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <SQLiteCpp/Database.h>

#include "vmm-agent/error.h"

namespace vpatch {

/// SQLite's application id of a journal, which tells it from other SQLite files.
inline constexpr int kJournalApplicationId = 0x76'70'6a'6c;  // "vpjl"

/// One step to a newer layout: `sql`, and then what SQL cannot say. Both throw SQLite::Exception.
struct Migration {
  const char* sql;
  void (*then)(SQLite::Database&);
};

/// What leads from an empty file to the layout of this program: the n-th makes version n (PRAGMA
/// user_version) of version n - 1. Those that were ever released never change.
std::span<const Migration> journal_migrations();

/// Brings the file to the newest version, each migration in a transaction of its own. Two programs
/// may do so at once. Outcome::refused when the file is no journal or of a newer version; throws
/// SQLite::Exception.
Result<void> migrate(SQLite::Database& database, std::span<const Migration> migrations);

}  // namespace vpatch

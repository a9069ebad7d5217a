// SPDX-License-Identifier: Apache-2.0
// The journal's file, for what keeps tables in it.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include "vmm-agent/error.h"
#include "vmm-agent/journal/now_utc.h"
#include "vmm-agent/journal/real_user.h"
#include "vmm-agent/journal/sqlite_error.h"

namespace vpatch {

/// The outcome of such a word (to_string()); internal for one that is not known.
Outcome outcome_of(std::string_view word);

/// Opens it with its tables of this program; makes the file (for its owner only) and the folder
/// around it if missing. `patience` bounds each wait for other writers. Throws SQLite::Exception.
Result<std::unique_ptr<SQLite::Database>> open_journal_file(const std::filesystem::path& path,
                                                            std::chrono::milliseconds patience);

/// Outcome::refused when the file was removed or moved away since it was opened.
Result<void> still_there(SQLite::Database& database);

/// The boundary where exceptions end. Errors say of which file and what failed.
template <class Function>
auto attempt_on(const std::filesystem::path& path, std::string_view what, const Function& function)
    -> decltype(function()) {
  const std::string context = fmt::format("journal {}: {}", path.string(), what);
  try {
    auto result = function();
    if (!result) {
      return std::unexpected(std::move(result.error()).in_context(context));
    }
    return result;
  } catch (const SQLite::Exception& exception) {
    return std::unexpected(from_sqlite(exception).in_context(context));
  } catch (const std::exception& exception) {
    return fail(Outcome::refused, fmt::format("{}: {}", context, exception.what()));
  }
}

/// The same for what writes: in a transaction of its own, which an error takes back.
template <class Function>
auto attempt_to_write_to(SQLite::Database& database, const std::filesystem::path& path,
                         std::string_view what, const Function& function) -> decltype(function()) {
  return attempt_on(path, what, [&]() -> decltype(function()) {
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    auto result = function();
    if (!result) {
      return result;
    }
    transaction.commit();
    if (auto there = still_there(database); !there) {
      return std::unexpected(std::move(there.error()));
    }
    return result;
  });
}

}  // namespace vpatch

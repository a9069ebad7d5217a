// SPDX-License-Identifier: Apache-2.0
// For the files that implement Journal only.
#pragma once

#include <string>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include "vmm-agent/journal/journal.h"
#include "vmm-agent/journal/sqlite_error.h"

namespace vpatch {

/// "2026-11-21T09:41:23.000017Z"
std::string now_utc();

template <class Function>
auto Journal::attempt(std::string_view what, const Function& function) const
    -> decltype(function()) {
  const std::string context = fmt::format("journal {}: {}", path_.string(), what);
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

template <class Function>
auto Journal::attempt_to_write(std::string_view what, const Function& function)
    -> decltype(function()) {
  return attempt(what, [&]() -> decltype(function()) {
    SQLite::Transaction transaction(*database_, SQLite::TransactionBehavior::IMMEDIATE);
    auto result = function();
    if (!result) {
      return result;
    }
    transaction.commit();
    if (auto there = still_there(); !there) {
      return std::unexpected(std::move(there.error()));
    }
    return result;
  });
}

}  // namespace vpatch

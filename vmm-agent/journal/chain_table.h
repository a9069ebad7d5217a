// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <boost/json/object.hpp>

namespace vpatch {

/// Appends an event to its operation and to the chain; within a transaction that may write. Throws
/// SQLite::Exception.
void append_event(SQLite::Database& database, std::int64_t operation, const std::string& at,
                  std::string_view kind, const boost::json::object& detail);

// What an operation's first and last event, "begin" and "end", say: these columns of its row.
inline constexpr const char* kBeginColumns =
    "user, verb, domain, identity, patch, patch_version, file_sha256, patch_build_id, "
    "vpatch_version, guest_release, boot_id";
inline constexpr const char* kEndColumns =
    "outcome, exit_code, summary, transition_us, pause_us, pauses, retries, signals, switches, "
    "patch, guest_release, boot_id";

/// What the events "registered" and "unregistered" (identity and patch of it) are of.
inline constexpr const char* kRegistrationColumns =
    "identity, domain, connection, patch, patch_version, file, file_sha256, release";

/// The row that a statement has come to, by its columns' names.
boost::json::object row_of(SQLite::Statement& row);
/// Columns of an operation's row.
boost::json::object columns_of(SQLite::Database& database, std::int64_t operation,
                               const char* columns);

/// Makes the chain of a journal that had none.
void chain_old_events(SQLite::Database& database);

}  // namespace vpatch

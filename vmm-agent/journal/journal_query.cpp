// SPDX-License-Identifier: Apache-2.0
// What the journal tells of operations.
#include <algorithm>
#include <limits>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include "vmm-agent/journal/attempt.h"

namespace vpatch {
namespace {

namespace json = boost::json;

std::optional<std::uint64_t> number_of(const SQLite::Column& column) {
  return column.isNull() ? std::nullopt
                         : std::optional(static_cast<std::uint64_t>(column.getInt64()));
}

constexpr const char* kColumns =
    "id, started_at, user, verb, domain, identity, patch, patch_version, file_sha256, "
    "patch_build_id, vpatch_version, guest_release, boot_id, ended_at, outcome, summary, "
    "transition_us, pause_us, pauses, retries, signals, switches";

constexpr const char* kWhere = R"sql(
FROM operation
WHERE (?1 = 0 OR id = ?1) AND (?2 = '' OR domain = ?2 OR identity = ?2)
  AND (?3 = '' OR patch = ?3) AND (?4 = '' OR verb = ?4) AND (?5 = '' OR outcome = ?5)
  AND (?6 = 0 OR outcome IS NOT 'done') AND started_at >= ?7 AND (?8 = '' OR started_at < ?8)
ORDER BY id DESC LIMIT ?9)sql";

OperationEnd end_of(SQLite::Statement& row) {
  return {.outcome = outcome_of(row.getColumn("outcome").getString()),
          .summary = row.getColumn("summary").getString(),
          .transition_us = number_of(row.getColumn("transition_us")),
          .pause_us = number_of(row.getColumn("pause_us")),
          .pauses = number_of(row.getColumn("pauses")).value_or(0),
          .retries = number_of(row.getColumn("retries")).value_or(0),
          .signals = number_of(row.getColumn("signals")).value_or(0),
          .switches = number_of(row.getColumn("switches")).value_or(0)};
}

StoredOperation operation_of(SQLite::Statement& row) {
  const auto text = [&row](const char* column) { return row.getColumn(column).getString(); };
  StoredOperation operation{.id = OperationId{row.getColumn("id").getInt64()},
                            .started_at = text("started_at"),
                            .user = text("user"),
                            .start = {.verb = text("verb"),
                                      .domain = text("domain"),
                                      .identity = text("identity"),
                                      .patch = text("patch"),
                                      .patch_version = text("patch_version"),
                                      .file_sha256 = text("file_sha256"),
                                      .patch_build_id = text("patch_build_id"),
                                      .vpatch_version = text("vpatch_version"),
                                      .guest_release = text("guest_release"),
                                      .boot_id = text("boot_id")},
                            .ended_at = {},
                            .end = {}};
  if (!row.getColumn("ended_at").isNull()) {
    operation.ended_at = text("ended_at");
    operation.end = end_of(row);
  }
  return operation;
}

/// The object in an event's text; nothing when somebody put something else there.
std::optional<json::object> detail_of(const std::string& text) {
  json::parse_options options;
  options.allow_invalid_utf8 = true;  // names in a guest may be any bytes
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) {
    return std::nullopt;
  }
  return std::move(value.get_object());
}

}  // namespace

Result<std::vector<StoredOperation>> Journal::operations(const OperationFilter& filter) {
  return attempt("read it", [&]() -> Result<std::vector<StoredOperation>> {
    SQLite::Statement rows(*database_, fmt::format("SELECT {} {}", kColumns, kWhere));
    rows.bind(1, filter.id ? std::to_underlying(*filter.id) : 0);
    rows.bind(2, filter.domain);
    rows.bind(3, filter.patch);
    rows.bind(4, filter.verb);
    rows.bind(5, filter.outcome ? std::string(to_string(*filter.outcome)) : "");
    rows.bind(6, filter.failed ? 1 : 0);
    rows.bind(7, filter.since);
    rows.bind(8, filter.until);
    constexpr std::size_t kMost = std::numeric_limits<std::int64_t>::max();
    rows.bind(9, static_cast<std::int64_t>(std::min(filter.limit, kMost)));
    std::vector<StoredOperation> operations;
    while (rows.executeStep()) {
      operations.push_back(operation_of(rows));
    }
    return operations;
  });
}

Result<std::vector<StoredOperation>> Journal::operations_after(OperationId operation,
                                                               std::size_t limit) {
  return attempt("read it", [&]() -> Result<std::vector<StoredOperation>> {
    SQLite::Statement rows(
        *database_,
        fmt::format("SELECT {} FROM operation WHERE id > ? ORDER BY id LIMIT ?", kColumns));
    rows.bind(1, std::to_underlying(operation));
    rows.bind(2, static_cast<std::int64_t>(limit));
    std::vector<StoredOperation> operations;
    while (rows.executeStep()) {
      operations.push_back(operation_of(rows));
    }
    return operations;
  });
}

Result<std::vector<StoredEvent>> Journal::events(OperationId operation) {
  return attempt("read it", [&]() -> Result<std::vector<StoredEvent>> {
    SQLite::Statement rows(
        *database_,
        "SELECT sequence, at, kind, detail FROM event WHERE operation_id = ? ORDER BY sequence");
    rows.bind(1, std::to_underlying(operation));
    std::vector<StoredEvent> events;
    while (rows.executeStep()) {
      auto detail = detail_of(rows.getColumn(3).getString());
      if (!detail) {
        return fail(Outcome::refused,
                    fmt::format("event {} of operation {} is not an object",
                                rows.getColumn(0).getInt64(), std::to_underlying(operation)));
      }
      events.push_back({.sequence = rows.getColumn(0).getInt64(),
                        .at = rows.getColumn(1).getString(),
                        .kind = rows.getColumn(2).getString(),
                        .detail = *std::move(detail)});
    }
    return events;
  });
}

Result<std::optional<StoredOperation>> Journal::last_load(const std::string& identity,
                                                          const std::string& file_sha256) {
  return attempt("read it", [&]() -> Result<std::optional<StoredOperation>> {
    SQLite::Statement rows(*database_, fmt::format(R"sql(
SELECT {} FROM operation
WHERE identity = ? AND file_sha256 = ?
  AND EXISTS (SELECT 1 FROM event WHERE operation_id = operation.id AND kind = 'load')
ORDER BY id DESC LIMIT 1)sql",
                                                   kColumns));
    rows.bind(1, identity);
    rows.bind(2, file_sha256);
    return rows.executeStep() ? std::optional(operation_of(rows)) : std::nullopt;
  });
}

Result<std::optional<std::string>> Journal::last_release(const std::string& identity) {
  return attempt("read it", [&]() -> Result<std::optional<std::string>> {
    SQLite::Statement rows(*database_, R"sql(
SELECT guest_release FROM operation
WHERE identity = ? AND guest_release <> '' ORDER BY id DESC LIMIT 1)sql");
    rows.bind(1, identity);
    return rows.executeStep() ? std::optional(rows.getColumn(0).getString()) : std::nullopt;
  });
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/chain_table.h"

#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <sqlite3.h>

#include "vmm-agent/journal/chain.h"

namespace vpatch {
namespace {

namespace json = boost::json;

/// An event whose detail is text already.
void append(SQLite::Database& database, ChainEntry entry) {
  std::string previous;
  {
    SQLite::Statement head(database, "SELECT links, hash FROM chain_head");
    if (!head.executeStep()) {
      throw SQLite::Exception("the chain of entries has no head", SQLITE_CORRUPT);
    }
    entry.link = head.getColumn(0).getInt64() + 1;
    previous = head.getColumn(1).getString();
  }
  SQLite::Statement last(database,
                         "SELECT coalesce(max(sequence), 0) FROM event WHERE operation_id = ?");
  last.bind(1, entry.operation);
  last.executeStep();
  entry.sequence = last.getColumn(0).getInt64() + 1;
  const std::string hash = hash_of(line_of(entry, previous));

  SQLite::Statement insert(database, "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)");
  insert.bind(1, entry.operation);
  insert.bind(2, entry.sequence);
  insert.bind(3, entry.at);
  insert.bind(4, entry.kind);
  insert.bind(5, entry.detail);
  insert.bind(6, entry.link);
  insert.bind(7, hash);
  insert.exec();
  SQLite::Statement move(database, "UPDATE chain_head SET links = ?, hash = ?");
  move.bind(1, entry.link);
  move.bind(2, hash);
  move.exec();
}

}  // namespace

void append_event(SQLite::Database& database, std::int64_t operation, const std::string& at,
                  std::string_view kind, const json::object& detail) {
  append(database, {.operation = operation,
                    .at = at,
                    .kind = std::string(kind),
                    .detail = json::serialize(detail)});
}

json::object row_of(SQLite::Statement& row) {
  json::object object;
  for (int index = 0; index < row.getColumnCount(); ++index) {
    const SQLite::Column column = row.getColumn(index);
    json::value& value = object[column.getName()];
    if (column.isInteger()) {
      value = column.getInt64();
    } else if (!column.isNull()) {
      value = column.getString();
    }
  }
  return object;
}

json::object columns_of(SQLite::Database& database, std::int64_t operation, const char* columns) {
  SQLite::Statement row(database, fmt::format("SELECT {} FROM operation WHERE id = ?", columns));
  row.bind(1, operation);
  return row.executeStep() ? row_of(row) : json::object();
}

void chain_old_events(SQLite::Database& database) {
  SQLite::Statement(database, fmt::format("INSERT INTO chain_head VALUES (1, 0, '{}')", kNoHash))
      .exec();
  SQLite::Statement operations(database, "SELECT id, started_at, ended_at FROM operation");
  while (operations.executeStep()) {
    const std::int64_t operation = operations.getColumn(0).getInt64();
    append_event(database, operation, operations.getColumn(1).getString(), "begin",
                 columns_of(database, operation, kBeginColumns));
    SQLite::Statement events(
        database,
        "SELECT at, kind, detail FROM old_event WHERE operation_id = ? ORDER BY sequence");
    events.bind(1, operation);
    while (events.executeStep()) {
      append(database, {.operation = operation,
                        .at = events.getColumn(0).getString(),
                        .kind = events.getColumn(1).getString(),
                        .detail = events.getColumn(2).getString()});
    }
    if (!operations.getColumn(2).isNull()) {
      append_event(database, operation, operations.getColumn(2).getString(), "end",
                   columns_of(database, operation, kEndColumns));
    }
  }
  database.exec("DROP TABLE old_event");
}

}  // namespace vpatch

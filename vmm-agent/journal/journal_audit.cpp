// SPDX-License-Identifier: Apache-2.0
// The journal held against its chain, and the chain as text.
#include <algorithm>
#include <map>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/journal/attempt.h"
#include "vmm-agent/journal/chain_table.h"

namespace vpatch {
namespace {

namespace json = boost::json;

// From the table itself: an index that was tampered with may hide a row.
constexpr const char* kEntries =
    "SELECT link, operation_id, sequence, at, kind, detail, hash FROM event NOT INDEXED "
    "ORDER BY link";
constexpr int kHashColumn = 6;

ChainEntry entry_of(SQLite::Statement& row) {
  return {.link = row.getColumn(0).getInt64(),
          .operation = row.getColumn(1).getInt64(),
          .sequence = row.getColumn(2).getInt64(),
          .at = row.getColumn(3).getString(),
          .kind = row.getColumn(4).getString(),
          .detail = row.getColumn(5).getString()};
}

json::object parse_detail(const std::string& text) {
  json::parse_options options;
  options.allow_invalid_utf8 = true;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  return !error && value.is_object() ? std::move(value.get_object()) : json::object();
}

/// What the entries say the other tables should hold.
class Expected {
 public:
  void take(const ChainEntry& entry) {
    json::object detail = parse_detail(entry.detail);
    if (entry.kind == "begin") {
      detail["started_at"] = entry.at;
      operations_[entry.operation] = std::move(detail);
    } else if (entry.kind == "end") {
      json::object& operation = operations_[entry.operation];
      for (const auto& [column, value] : detail) {
        operation[column] = value;
      }
      operation["ended_at"] = entry.at;
    } else if (entry.kind == "registered") {
      // One that is registered again keeps its place.
      Registered& registered = registrations_[key_of(detail)];
      registered.place = registered.place == 0 ? entry.link : registered.place;
      registered.columns = std::move(detail);
    } else if (entry.kind == "unregistered") {
      registrations_.erase(key_of(detail));
    }
  }

  void compare(SQLite::Database& database, Verification& result) {
    compare_operations(database, result);
    compare_registrations(database, result);
  }

 private:
  static std::string text_of(const json::object& registration, const char* name) {
    const json::value* value = registration.if_contains(name);
    return value == nullptr ? std::string() : json::serialize(*value);
  }

  static std::string key_of(const json::object& registration) {
    return text_of(registration, "identity") + " " + text_of(registration, "patch");
  }

  void compare_operations(SQLite::Database& database, Verification& result) {
    SQLite::Statement rows(database, "SELECT id FROM operation ORDER BY id");
    const std::string columns =
        fmt::format("started_at, ended_at, {}, {}", kBeginColumns, kEndColumns);
    while (rows.executeStep()) {
      const std::int64_t id = rows.getColumn(0).getInt64();
      const auto expected = operations_.extract(id);
      if (expected.empty()) {
        result.add(fmt::format("operation {} has no entry in the chain", id));
        continue;
      }
      for (const auto& [column, value] : columns_of(database, id, columns.c_str())) {
        const json::value* said = expected.mapped().if_contains(column);
        if (value != (said == nullptr ? json::value(nullptr) : *said)) {
          result.add(fmt::format("operation {}: its {} was changed", id, std::string(column)));
        }
      }
    }
    for (const auto& [id, columns_said] : operations_) {
      result.add(fmt::format("operation {} is missing, its entries are there", id));
    }
  }

  void compare_registrations(SQLite::Database& database, Verification& result) {
    // `ensure` goes by the order of a domain's ids.
    SQLite::Statement rows(
        database,
        fmt::format("SELECT {} FROM registration NOT INDEXED ORDER BY id", kRegistrationColumns));
    std::map<std::string, std::int64_t> last_place;  // by identity
    while (rows.executeStep()) {
      const json::object registration = row_of(rows);
      const auto expected = registrations_.extract(key_of(registration));
      if (expected.empty() || expected.mapped().columns != registration) {
        result.add(fmt::format("the registration of {} for {} is not the one that was recorded",
                               text_of(registration, "patch"), text_of(registration, "domain")));
        continue;
      }
      std::int64_t& last = last_place[text_of(registration, "identity")];
      if (expected.mapped().place < last) {
        result.add(fmt::format("the registration of {} for {} is not in its place",
                               text_of(registration, "patch"), text_of(registration, "domain")));
      }
      last = std::max(last, expected.mapped().place);
    }
    for (const auto& [key, registered] : registrations_) {
      result.add(fmt::format("the registration of {} for {} is missing",
                             text_of(registered.columns, "patch"),
                             text_of(registered.columns, "domain")));
    }
  }

  struct Registered {
    std::int64_t place = 0;  ///< the entry that registered it first
    json::object columns;
  };
  std::map<std::int64_t, json::object> operations_;
  std::map<std::string, Registered> registrations_;
};

std::string range_of(std::int64_t first, std::int64_t last) {
  return first == last ? fmt::format("entry {} is missing", first)
                       : fmt::format("entries {} to {} are missing", first, last);
}

void verify_entry(const ChainEntry& entry, const std::string& hash, Verification& result) {
  const auto next = static_cast<std::int64_t>(result.entries) + 1;
  if (entry.link > next) {
    result.add(range_of(next, entry.link - 1));
  } else if (entry.link < next) {
    result.add(fmt::format("entry {} is not in its place", entry.link));
  } else if (hash_of(line_of(entry, result.head)) != hash) {
    result.add(fmt::format("entry {} was changed: event {} ({}) of operation {}", entry.link,
                           entry.sequence, entry.kind, entry.operation));
  }
  result.entries = static_cast<std::uint64_t>(entry.link);
  result.head = hash;
}

/// What the chain does not see: the file's own structure, and what vpatch never puts into it.
void verify_file(SQLite::Database& database, Verification& result) {
  SQLite::Statement check(database, "PRAGMA integrity_check");
  while (check.executeStep()) {
    if (const auto line = check.getColumn(0).getString(); line != "ok") {
      result.add(fmt::format("the database is damaged: {}", line));
    }
  }
  SQLite::Statement foreign(
      database, "SELECT type, name FROM sqlite_schema WHERE type NOT IN ('table', 'index')");
  while (foreign.executeStep()) {
    result.add(fmt::format("a {} was put in: {}", foreign.getColumn(0).getString(),
                           json::serialize(json::value(foreign.getColumn(1).getString()))));
  }
}

/// SQLite notes the highest id that it gave out.
void verify_last_operation(SQLite::Database& database, Verification& result) {
  const auto number = [&database](const char* sql) { return database.execAndGet(sql).getInt64(); };
  const auto given =
      number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'operation'");
  const auto last = number("SELECT coalesce(max(id), 0) FROM operation");
  if (given != last) {
    result.add(fmt::format("the last operation is {}, and the last one begun was {}", last, given));
  }
}

void verify_head(SQLite::Database& database, Verification& result) {
  SQLite::Statement head(database, "SELECT links, hash FROM chain_head");
  if (!head.executeStep()) {
    result.add("the chain's head is missing");
    return;
  }
  const std::int64_t links = head.getColumn(0).getInt64();
  const auto seen = static_cast<std::int64_t>(result.entries);
  if (links > seen) {
    result.add(range_of(seen + 1, links) + " at the end");
  } else if (links < seen || head.getColumn(1).getString() != result.head) {
    result.add("the chain's head does not fit its last entry");
  }
}

}  // namespace

Result<Verification> Journal::verify() {
  return attempt("verify it", [&]() -> Result<Verification> {
    const SQLite::Transaction all_of_one_moment(*database_);
    Verification result;
    Expected expected;
    verify_file(*database_, result);
    SQLite::Statement rows(*database_, kEntries);
    while (rows.executeStep()) {
      const ChainEntry entry = entry_of(rows);
      verify_entry(entry, rows.getColumn(kHashColumn).getString(), result);
      expected.take(entry);
    }
    verify_head(*database_, result);
    verify_last_operation(*database_, result);
    expected.compare(*database_, result);
    return result;
  });
}

Result<void> Journal::export_lines(const std::function<bool(const std::string& line)>& take) {
  return attempt("export it", [&]() -> Result<void> {
    const SQLite::Transaction all_of_one_moment(*database_);
    std::string head(kNoHash);
    SQLite::Statement rows(*database_, kEntries);
    while (rows.executeStep()) {
      ChainEntry entry = entry_of(rows);
      if (entry.detail.find('\n') != std::string::npos) {  // we write none
        entry.detail = json::serialize(parse_detail(entry.detail));
      }
      if (!take(line_of(entry, head))) {
        return {};
      }
      head = rows.getColumn(kHashColumn).getString();
    }
    SQLite::Statement links(*database_, "SELECT links, hash FROM chain_head");
    if (links.executeStep()) {
      take(closing_line(
          static_cast<std::uint64_t>(std::max<std::int64_t>(0, links.getColumn(0).getInt64())),
          links.getColumn(1).getString()));
    }
    return {};
  });
}

}  // namespace vpatch

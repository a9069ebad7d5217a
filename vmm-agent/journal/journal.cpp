// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/journal.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include "vmm-agent/journal/attempt.h"
#include "vmm-agent/journal/chain_table.h"

namespace vpatch {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

std::int64_t to_column(std::uint64_t number) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(std::min(number, static_cast<std::uint64_t>(kMost)));
}

void bind(SQLite::Statement& statement, int index, const std::optional<std::uint64_t>& number) {
  if (number) {
    statement.bind(index, to_column(*number));
  } else {
    statement.bind(index);
  }
}

}  // namespace

Journal::Journal(std::unique_ptr<SQLite::Database> database, fs::path path)
    : database_(std::move(database)), path_(std::move(path)) {}
Journal::Journal(Journal&& other) noexcept = default;
Journal& Journal::operator=(Journal&& other) noexcept = default;
Journal::~Journal() = default;

fs::path Journal::path() {
  const char* const chosen =
      std::getenv("VPATCH_JOURNAL");  // NOLINT(concurrency-mt-unsafe): none is set
  return chosen != nullptr && *chosen != '\0' ? chosen : kDefaultPath;
}

Result<Journal> Journal::open(const fs::path& path, std::chrono::milliseconds patience) {
  Journal journal(nullptr, path);
  auto opened = journal.attempt("open it", [&] { return open_journal_file(path, patience); });
  return map(std::move(opened), [&](std::unique_ptr<SQLite::Database> database) {
    journal.database_ = std::move(database);
    return std::move(journal);
  });
}

Result<OperationId> Journal::begin(const OperationStart& start) {
  return attempt_to_write("begin an operation", [&]() -> Result<OperationId> {
    SQLite::Statement insert(*database_, R"sql(
INSERT INTO operation (started_at, user, verb, domain, identity, patch, patch_version, file_sha256,
                       patch_build_id, vpatch_version, guest_release, boot_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))sql");
    const std::string at = now_utc();
    int index = 0;
    for (const std::string& text :
         {at, real_user(), start.verb, start.domain, start.identity, start.patch,
          start.patch_version, start.file_sha256, start.patch_build_id, start.vpatch_version,
          start.guest_release, start.boot_id}) {
      insert.bind(++index, text);
    }
    insert.exec();
    const std::int64_t operation = database_->getLastInsertRowid();
    append_event(*database_, operation, at, "begin",
                 columns_of(*database_, operation, kBeginColumns));
    return OperationId{operation};
  });
}

Result<void> Journal::event(OperationId operation, std::string_view kind,
                            const json::object& detail) {
  return attempt_to_write("record an event", [&]() -> Result<void> {
    const std::size_t size = json::serialize(detail).size();
    append_event(*database_, std::to_underlying(operation), now_utc(), kind,
                 size <= kMaxDetail ? detail : json::object{{"too_long", size}});
    return {};
  });
}

Result<void> Journal::end(OperationId operation, const OperationEnd& end) {
  return attempt_to_write("end an operation", [&]() -> Result<void> {
    SQLite::Statement update(*database_, R"sql(
UPDATE operation
SET ended_at = ?2, outcome = ?3, exit_code = ?4, summary = ?5, transition_us = ?6, pause_us = ?7,
    pauses = ?8, retries = ?9, signals = ?10, switches = ?11,
    patch = coalesce(nullif(?12, ''), patch),
    guest_release = coalesce(nullif(?13, ''), guest_release),
    boot_id = coalesce(nullif(?14, ''), boot_id)
WHERE id = ?1 AND ended_at IS NULL)sql");
    const std::string at = now_utc();
    update.bind(1, std::to_underlying(operation));
    update.bind(2, at);
    update.bind(3, std::string(to_string(end.outcome)));
    update.bind(4, static_cast<int>(end.outcome));
    update.bind(5, end.summary);
    bind(update, 6, end.transition_us);
    bind(update, 7, end.pause_us);
    bind(update, 8, end.pauses);
    bind(update, 9, end.retries);
    bind(update, 10, end.signals);
    bind(update, 11, end.switches);
    update.bind(12, end.patch);
    update.bind(13, end.guest_release);
    update.bind(14, end.boot_id);
    if (update.exec() != 1) {
      return fail(Outcome::refused,
                  fmt::format("operation {} is not under way", std::to_underlying(operation)));
    }
    append_event(*database_, std::to_underlying(operation), at, "end",
                 columns_of(*database_, std::to_underlying(operation), kEndColumns));
    return {};
  });
}

}  // namespace vpatch

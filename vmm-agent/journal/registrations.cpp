// SPDX-License-Identifier: Apache-2.0
// The livepatches that domains are to have again after a reboot, and the copies of their files.
#include <optional>
#include <system_error>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include "vmm-agent/journal/attempt.h"
#include "vmm-agent/journal/chain_table.h"
#include "vmm-agent/journal/kept_file.h"

namespace vpatch {
namespace {

namespace fs = std::filesystem;

Registration registration_of(SQLite::Statement& row) {
  const auto text = [&row](const char* column) { return row.getColumn(column).getString(); };
  return {.identity = text("identity"),
          .domain = text("domain"),
          .connection = text("connection"),
          .patch = text("patch"),
          .patch_version = text("patch_version"),
          .file = text("file"),
          .file_sha256 = text("file_sha256"),
          .release = text("release")};
}

/// The SHA-256 of a registration's file, where there is one.
std::optional<std::string> registered_file(SQLite::Database& database, const std::string& identity,
                                           const std::string& patch) {
  SQLite::Statement row(database,
                        "SELECT file_sha256 FROM registration WHERE identity = ? AND patch = ?");
  row.bind(1, identity);
  row.bind(2, patch);
  return row.executeStep() ? std::optional(row.getColumn(0).getString()) : std::nullopt;
}

}  // namespace

fs::path Journal::copy_of(const std::string& file_sha256) const {
  return kept_file(path_, file_sha256);
}

Result<void> Journal::register_patch(OperationId operation, const Registration& registration,
                                     std::span<const std::byte> file) {
  std::string replaced;
  auto registered = attempt_to_write("register a livepatch", [&]() -> Result<void> {
    replaced = registered_file(*database_, registration.identity, registration.patch).value_or("");
    if (auto kept = keep_file(copy_of(registration.file_sha256), file); !kept) {
      return kept;
    }
    // One that is registered again keeps its place.
    SQLite::Statement insert(*database_, R"sql(
INSERT INTO registration (operation_id, at, identity, domain, connection, patch, patch_version, file,
                          file_sha256, release)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (identity, patch) DO UPDATE SET
  operation_id = excluded.operation_id, at = excluded.at, domain = excluded.domain,
  connection = excluded.connection, patch_version = excluded.patch_version, file = excluded.file,
  file_sha256 = excluded.file_sha256, release = excluded.release)sql");
    const std::string at = now_utc();
    insert.bind(1, std::to_underlying(operation));
    int index = 1;
    for (const std::string& text :
         {at, registration.identity, registration.domain, registration.connection,
          registration.patch, registration.patch_version, registration.file,
          registration.file_sha256, registration.release}) {
      insert.bind(++index, text);
    }
    insert.exec();
    SQLite::Statement row(
        *database_, fmt::format("SELECT {} FROM registration WHERE identity = ? AND patch = ?",
                                kRegistrationColumns));
    row.bind(1, registration.identity);
    row.bind(2, registration.patch);
    row.executeStep();
    append_event(*database_, std::to_underlying(operation), at, "registered", row_of(row));
    return {};
  });
  if (registered && !replaced.empty() && replaced != registration.file_sha256) {
    remove_unneeded_copy(replaced);
  }
  return registered;
}

/// After the row that needed it is gone for good; what registers the same file meanwhile keeps it.
void Journal::remove_unneeded_copy(const std::string& file_sha256) {
  const auto done = attempt_to_write("remove a copy", [&]() -> Result<void> {
    SQLite::Statement others(*database_, R"sql(
SELECT 1 FROM registration WHERE file_sha256 = ?1
UNION ALL SELECT 1 FROM rollout_file WHERE sha256 = ?1
UNION ALL SELECT 1 FROM rollout_former WHERE sha256 = ?1)sql");
    others.bind(1, file_sha256);
    if (!others.executeStep()) {
      std::error_code ignored;
      fs::remove(copy_of(file_sha256), ignored);
    }
    return {};
  });
  static_cast<void>(done);  // a copy too many does no harm
}

Result<bool> Journal::unregister_patch(OperationId operation, const std::string& identity,
                                       const std::string& patch) {
  std::string sha256;
  auto removed = attempt_to_write("take a registration back", [&]() -> Result<bool> {
    auto file = registered_file(*database_, identity, patch);
    if (!file) {
      return false;
    }
    sha256 = *std::move(file);
    SQLite::Statement remove(*database_,
                             "DELETE FROM registration WHERE identity = ? AND patch = ?");
    remove.bind(1, identity);
    remove.bind(2, patch);
    remove.exec();
    append_event(*database_, std::to_underlying(operation), now_utc(), "unregistered",
                 {{"identity", identity}, {"patch", patch}});
    return true;
  });
  if (removed && *removed) {
    remove_unneeded_copy(sha256);
  }
  return removed;
}

Result<std::vector<Registration>> Journal::registrations(const RegistrationFilter& filter) {
  return attempt("read it", [&]() -> Result<std::vector<Registration>> {
    SQLite::Statement rows(*database_, R"sql(
SELECT * FROM registration
WHERE (?1 = '' OR identity = ?1) AND (?2 = '' OR connection = ?2) ORDER BY identity, id)sql");
    rows.bind(1, filter.identity);
    rows.bind(2, filter.connection);
    std::vector<Registration> registrations;
    while (rows.executeStep()) {
      registrations.push_back(registration_of(rows));
    }
    return registrations;
  });
}

}  // namespace vpatch

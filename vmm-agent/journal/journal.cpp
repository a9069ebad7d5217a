// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/journal.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <system_error>
#include <thread>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/journal/attempt.h"
#include "vmm-agent/journal/chain_table.h"
#include "vmm-agent/journal/schema.h"
#include "vmm-agent/journal/sqlite_error.h"

namespace vpatch {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kBetweenAttempts{10};

/// The login name of the real user.
std::string real_user() {
  const uid_t uid = getuid();
  const char* const behind_sudo =
      std::getenv("SUDO_USER");  // NOLINT(concurrency-mt-unsafe): none is set
  if (uid == 0 && behind_sudo != nullptr && *behind_sudo != '\0') {
    return behind_sudo;
  }
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    return found->pw_name;
  }
  return fmt::format("uid {}", uid);
}

Result<void> cannot_create(const fs::path& path, int number) {
  return fail(Outcome::refused,
              fmt::format("create {}: {}", path.string(), std::generic_category().message(number)),
              number == ENOSPC || number == EDQUOT
                  ? "Make room on its file system; until then nothing is recorded."
                  : "Run vpatch as root, or name another file with VPATCH_JOURNAL.");
}

/// Makes the file if it is not there. SQLite gives its -wal and -shm the same mode.
Result<void> create_file(const fs::path& path) {
  const fs::path folder = fs::absolute(path).parent_path();
  std::error_code error;
  if (!fs::exists(folder, error)) {
    fs::create_directories(folder.parent_path(), error);
    if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
      return cannot_create(folder, errno);
    }
  }
  // Never opened when it exists: closing a descriptor of it would drop the locks that another
  // journal of this process has.
  const introspect::UniqueFd fd(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!fd && errno != EEXIST) {
    return cannot_create(path, errno);
  }
  return {};
}

Result<void> prepare(SQLite::Database& database) {
  database.exec("PRAGMA foreign_keys = ON");
  // First: a file that is not ours stays as it is.
  if (auto migrated = migrate(database, journal_migrations()); !migrated) {
    return migrated;
  }
  database.exec("PRAGMA journal_mode = WAL");
  // No sync at each entry: what a crash of the host could lose is of guests that it took along.
  database.exec("PRAGMA synchronous = NORMAL");
  return {};
}

/// Retries what SQLite does not wait for by itself, such as two programs that begin one file.
Result<void> prepare_patiently(SQLite::Database& database, std::chrono::milliseconds patience) {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (true) {
    try {
      return prepare(database);
    } catch (const SQLite::Exception& exception) {
      if (!is_busy(exception) || std::chrono::steady_clock::now() >= give_up) {
        throw;
      }
      std::this_thread::sleep_for(kBetweenAttempts);
    }
  }
}

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

std::string now_utc() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  tm utc{};
  gmtime_r(&time.tv_sec, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     time.tv_nsec / 1000);
}

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
  const auto opened = journal.attempt("open it", [&]() -> Result<void> {
    if (auto created = create_file(path); !created) {
      return created;
    }
    journal.database_ = std::make_unique<SQLite::Database>(
        path.string(), SQLite::OPEN_READWRITE,
        static_cast<int>(std::clamp<std::int64_t>(patience.count(), 0, 3'600'000)));
    return prepare_patiently(*journal.database_, patience);
  });
  if (!opened) {
    return std::unexpected(opened.error());
  }
  return journal;
}

Result<void> Journal::still_there() const {
  int moved = 0;
  if (sqlite3_file_control(database_->getHandle(), "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
          SQLITE_OK &&
      moved != 0) {
    return fail(Outcome::refused, "the file was removed or moved away while it was in use",
                "What was written to it since is lost; vpatch begins a new one next time.");
  }
  return {};
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

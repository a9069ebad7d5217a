// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/journal_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <pwd.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/journal/schema.h"

namespace vpatch {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kBetweenAttempts{10};

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

Outcome outcome_of(std::string_view word) {
  for (const Outcome outcome :
       {Outcome::done, Outcome::usage, Outcome::refused, Outcome::stalled_reverted,
        Outcome::stalled_waiting, Outcome::unreachable, Outcome::failed_restored,
        Outcome::failed_needs_look, Outcome::unrecorded}) {
    if (word == to_string(outcome)) {
      return outcome;
    }
  }
  return Outcome::internal;
}

Result<std::unique_ptr<SQLite::Database>> open_journal_file(const fs::path& path,
                                                            std::chrono::milliseconds patience) {
  if (auto created = create_file(path); !created) {
    return std::unexpected(std::move(created.error()));
  }
  auto database = std::make_unique<SQLite::Database>(
      path.string(), SQLite::OPEN_READWRITE,
      static_cast<int>(std::clamp<std::int64_t>(patience.count(), 0, 3'600'000)));
  if (auto prepared = prepare_patiently(*database, patience); !prepared) {
    return std::unexpected(std::move(prepared.error()));
  }
  return database;
}

Result<void> still_there(SQLite::Database& database) {
  int moved = 0;
  if (sqlite3_file_control(database.getHandle(), "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
          SQLITE_OK &&
      moved != 0) {
    return fail(Outcome::refused, "the file was removed or moved away while it was in use",
                "What was written to it since is lost; vpatch begins a new one next time.");
  }
  return {};
}

}  // namespace vpatch

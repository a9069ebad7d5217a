// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/sqlite_error.h"

#include <sqlite3.h>

namespace vpatch {
namespace {

int primary_code(const SQLite::Exception& exception) {
  return exception.getErrorCode() & 0xff;  // the rest of an extended code says more
}

const char* hint_for(int code) {
  switch (code) {
    case SQLITE_FULL:
    case SQLITE_IOERR:  // of a quota or a limit, SQLite says no more than this
      return "Make room on its file system (df, quota), or look whether its disk is sound; until "
             "then nothing is recorded.";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "Another program holds it (fuser tells which); try again when that is done.";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "Move the file away with its -wal and -shm; vpatch then begins a new one.";
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return "Run vpatch as root, or name another file with VPATCH_JOURNAL.";
    default:
      return "";
  }
}

}  // namespace

bool is_busy(const SQLite::Exception& exception) {
  return primary_code(exception) == SQLITE_BUSY || primary_code(exception) == SQLITE_LOCKED;
}

Error from_sqlite(const SQLite::Exception& exception) {
  return Error{Outcome::refused, exception.what(), hint_for(primary_code(exception))};
}

}  // namespace vpatch

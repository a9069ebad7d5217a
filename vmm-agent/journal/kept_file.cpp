// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/kept_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"

namespace vpatch {
namespace {

namespace fs = std::filesystem;

Result<void> failed(const char* what, const fs::path& path) {
  return fail(Outcome::refused,
              fmt::format("{} {}: {}", what, path.string(), std::generic_category().message(errno)),
              errno == ENOSPC || errno == EDQUOT ? "Make room on its file system." : "");
}

Result<void> write_all(int fd, std::span<const std::byte> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) {
      return failed("write", path);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
  }
  return ::fsync(fd) == 0 ? Result<void>() : failed("write", path);
}

}  // namespace

fs::path kept_file(const fs::path& journal, const std::string& sha256) {
  return fs::absolute(journal).parent_path() / "patches" / (sha256 + ".ko");
}

Result<void> keep_file(const fs::path& path, std::span<const std::byte> bytes) {
  if (::mkdir(path.parent_path().c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return failed("create", path.parent_path());
  }
  const fs::path draft = path.string() + fmt::format(".{}", ::getpid());
  const introspect::UniqueFd fd(::open(
      draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!fd) {
    return failed("create", draft);
  }
  auto done = write_all(fd.get(), bytes, draft);
  if (done && ::rename(draft.c_str(), path.c_str()) != 0) {
    done = failed("rename", draft);
  }
  if (!done) {
    ::unlink(draft.c_str());
  }
  return done;
}

}  // namespace vpatch

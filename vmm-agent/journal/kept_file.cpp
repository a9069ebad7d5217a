// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/kept_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/journal/chain.h"

namespace vpatch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHashDigits = 64;

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

std::unexpected<Error> cannot_read(int number) {
  return fail(Outcome::refused, fmt::format("this host's copy of the file cannot be read: {}",
                                            std::generic_category().message(number)));
}

Result<std::vector<std::byte>> read_all(int fd, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t done = 0; done < size;) {
    const ssize_t length = ::read(fd, bytes.data() + done, size - done);
    if (length < 0 && errno != EINTR) {
      return cannot_read(errno);
    }
    if (length == 0) {
      bytes.resize(done);
      break;
    }
    done += length > 0 ? static_cast<std::size_t>(length) : 0;
  }
  return bytes;
}

}  // namespace

fs::path kept_file(const fs::path& journal, const std::string& sha256) {
  return fs::absolute(journal).parent_path() / "patches" / (sha256 + ".ko");
}

std::string sha256_of(std::span<const std::byte> bytes) {
  return hash_of({reinterpret_cast<const char*>(bytes.data()), bytes.size()});  // NOLINT
}

Result<std::vector<std::byte>> read_kept_file(const fs::path& journal, std::string_view sha256,
                                              std::size_t limit) {
  if (sha256.size() != kHashDigits ||
      sha256.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
    return fail(Outcome::refused, "a SHA-256 has 64 digits of lower-case hexadecimal");
  }
  const introspect::UniqueFd fd(::open(kept_file(journal, std::string(sha256)).c_str(),
                                       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    return errno == ENOENT || errno == ENOTDIR
               ? fail(Outcome::refused, "this host keeps no copy of a file with this SHA-256")
               : cannot_read(errno);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return cannot_read(errno);
  }
  if (!S_ISREG(status.st_mode) || std::cmp_greater(status.st_size, limit)) {
    return fail(Outcome::refused,
                fmt::format("this host's copy is no file of at most {} bytes", limit));
  }
  auto bytes = read_all(fd.get(), static_cast<std::size_t>(status.st_size));
  if (bytes && sha256_of(*bytes) != sha256) {
    return fail(Outcome::refused, "this host's copy is damaged: its SHA-256 is another");
  }
  return bytes;
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

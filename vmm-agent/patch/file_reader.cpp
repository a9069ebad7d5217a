// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/file_reader.h"

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vpatch {
namespace {

class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::string errno_text(int code) {
  return std::system_category().message(code);
}

std::unexpected<Error> open_failure(int code) {
  if (code == ENOENT || code == ENOTDIR) {
    return fail(Outcome::refused, "no such file", "Check the path of the livepatch module.");
  }
  if (code == EACCES || code == EPERM) {
    return fail(Outcome::refused, "cannot be opened: " + errno_text(code),
                "Give the user running vpatch read access to the file and its directories.");
  }
  if (code == ENXIO) {
    return fail(Outcome::refused, "not a regular file",
                "Give the path of a livepatch module (.ko).");
  }
  return fail(Outcome::refused, "cannot be opened: " + errno_text(code),
              "Check the path of the livepatch module.");
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

/// Reads up to `size` bytes; fewer only at the end of the file.
Result<std::size_t> read_up_to(int fd, std::byte* to, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(fd, to + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return fail(Outcome::refused, "cannot be read: " + errno_text(errno),
                  "Check the disk or the network file system that holds the file.");
    }
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace

Result<std::vector<std::byte>> read_regular_file(const std::filesystem::path& path,
                                                 std::size_t limit) {
  // O_NONBLOCK: without it, opening a FIFO waits for a writer.
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.is_open()) return open_failure(errno);

  struct stat info{};
  if (::fstat(file.fd(), &info) != 0) return open_failure(errno);
  if (!S_ISREG(info.st_mode)) {
    const auto kind = kind_of(info.st_mode);
    return fail(
        Outcome::refused,
        kind.starts_with("not") ? std::string(kind) : fmt::format("{}, not a regular file", kind),
        "Give the path of a livepatch module (.ko).");
  }
  if (info.st_size <= 0) {
    return fail(Outcome::refused, "empty file", "Build the livepatch module again.");
  }
  if (std::cmp_greater(info.st_size, limit)) {
    return fail(
        Outcome::refused,
        fmt::format("{} bytes long, more than the limit of {} MiB", info.st_size, limit >> 20),
        "Strip the debug information from the module: strip --strip-debug FILE.");
  }

  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size) + 1);
  const auto got = read_up_to(file.fd(), bytes.data(), bytes.size());
  if (!got) return std::unexpected(got.error());
  bytes.pop_back();
  if (*got != bytes.size()) {
    return fail(Outcome::refused, "changed while it was being read",
                "Wait until the file is completely written, then try again.");
  }
  return bytes;
}

}  // namespace vpatch

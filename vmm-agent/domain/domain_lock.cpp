// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain_lock.h"

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vpatch {
namespace {

/// One folder for all users of the host: a lock that only some of them see is none.
constexpr const char* kLockFolder = "/run/vpatch";

/// What the holder wrote about itself, made fit to print.
std::string read_holder(int fd) {
  std::array<char, 200> text{};
  const ssize_t size = pread(fd, text.data(), text.size(), 0);
  std::string holder(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  std::erase_if(holder, [](char c) { return c < ' ' || c > '~'; });
  return holder.empty() ? "another vpatch" : holder;
}

/// All of a file, for one who writes. An open file description's lock: it goes with the last
/// descriptor, and can be asked about without being taken.
struct flock whole_file() {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

std::unexpected<Error> lock_file_error(const std::string& what, const std::string& path) {
  return fail(Outcome::refused,
              fmt::format("cannot {} {}: {}", what, path, std::generic_category().message(errno)),
              "Run vpatch as root, or let the group libvirt use the folder: install -d -m 2770 -g "
              "libvirt /run/vpatch");
}

Result<LockFile> open_lock_file(const std::string& name) {
  if (mkdir(kLockFolder, 0755) != 0 && errno != EEXIST) {
    return lock_file_error("create", kLockFolder);
  }
  std::string path = fmt::format("{}/{}.lock", kLockFolder, name);
  introspect::UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660));
  if (fd.get() < 0) {
    return lock_file_error("open", path);
  }
  return LockFile{std::move(fd), std::move(path)};
}

Result<DomainLock> DomainLock::acquire(const std::string& identity, const std::string& domain,
                                       const std::string& what) {
  auto file = open_lock_file(identity);
  if (!file) {
    return std::unexpected(std::move(file.error()));
  }
  introspect::UniqueFd fd = std::move(file->fd);
  struct flock lock = whole_file();
  if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return lock_file_error("lock", file->path);
    }
    return fail(Outcome::refused,
                fmt::format("{}: busy: {} works on this domain", domain, read_holder(fd.get())),
                "Wait until it has ended, then run the command again.");
  }
  const std::string holder = fmt::format("vpatch {} (process {})", what, getpid());
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), holder.data(), holder.size(), 0) < 0) {
    return lock_file_error("write", file->path);
  }
  return DomainLock(std::move(fd));
}

std::string DomainLock::holder(const std::string& identity) {
  const auto file = open_lock_file(identity);
  struct flock lock = whole_file();
  const bool held =
      file && fcntl(file->fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  return held ? read_holder(file->fd.get()) : "";
}

}  // namespace vpatch

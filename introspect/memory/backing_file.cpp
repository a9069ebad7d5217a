// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/backing_file.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/host_error.h"

namespace vpatch::introspect {

Result<std::uint64_t> readable_size(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return fail_errno("look at the RAM backing file", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(Errc::no_memory, "the RAM backing is not a regular file");
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) {
    return fail_errno("look at the RAM backing file", errno);
  }
  if ((flags & O_ACCMODE) == O_WRONLY) {
    return fail(Errc::permission, "the RAM backing file is not open for reading", EBADF);
  }
  return static_cast<std::uint64_t>(status.st_size);
}

Result<std::optional<std::uint64_t>> data_start(int fd, std::uint64_t from, std::uint64_t end) {
  const off_t data = ::lseek(fd, static_cast<off_t>(from), SEEK_DATA);
  if (data >= 0) {
    const auto start = static_cast<std::uint64_t>(data);
    return start < end ? std::optional(start) : std::nullopt;
  }
  if (errno == ENXIO) {
    return std::nullopt;
  }
  if (errno == EINVAL || errno == EOPNOTSUPP) {
    return from;
  }
  return fail_errno("look for data in the RAM backing file", errno);
}

Result<std::optional<FileExtent>> next_data(int fd, std::uint64_t from, std::uint64_t end) {
  const auto start = data_start(fd, from, end);
  if (!start) {
    return std::unexpected(start.error());
  }
  const std::optional<std::uint64_t> data = *start;
  if (!data) {
    return std::nullopt;
  }
  const off_t hole = ::lseek(fd, static_cast<off_t>(*data), SEEK_HOLE);
  if (hole < 0) {
    return FileExtent{*data, end};
  }
  // The data may have been given back between the two calls; one page is then looked at in vain.
  return FileExtent{*data, std::clamp(static_cast<std::uint64_t>(hole), *data + 1, end)};
}

}  // namespace vpatch::introspect

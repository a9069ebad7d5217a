// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/kept_file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/journal/chain.h"
#include "vmm-agent/journal/kept_file.h"

namespace vpatch::serve {
namespace {

constexpr std::size_t kHashDigits = 64;

bool is_sha256(std::string_view text) {
  return text.size() == kHashDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::unexpected<Error> cannot_read(int number) {
  return fail(Outcome::refused, fmt::format("this host's copy of the file cannot be read: {}",
                                            std::generic_category().message(number)));
}

Result<std::string> read_all(int fd, std::size_t size) {
  std::string bytes(size, '\0');
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

Result<std::string> read_kept_file(const std::filesystem::path& journal, std::string_view sha256) {
  if (!is_sha256(sha256)) {
    return fail(Outcome::refused, "\"sha256\" is not 64 digits of lower-case hexadecimal");
  }
  const auto path = kept_file(journal, std::string(sha256));
  const introspect::UniqueFd fd(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    return errno == ENOENT || errno == ENOTDIR
               ? fail(Outcome::refused, "this host keeps no copy of a file with this SHA-256")
               : cannot_read(errno);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return cannot_read(errno);
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::size_t>(status.st_size) > kMaxKeptFile) {
    return fail(Outcome::refused,
                fmt::format("this host's copy is no file of at most {} bytes", kMaxKeptFile));
  }
  auto bytes = read_all(fd.get(), static_cast<std::size_t>(status.st_size));
  if (bytes && hash_of(*bytes) != sha256) {
    return fail(Outcome::refused, "this host's copy is damaged: its SHA-256 is another");
  }
  return bytes;
}

}  // namespace vpatch::serve

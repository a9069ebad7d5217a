// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/session_files.h"

#include <array>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qmp/base64.h"

namespace vpatch::serve {
namespace {

using introspect::UniqueFd;

/// In lower-case hexadecimal; empty when OpenSSL cannot.
std::string sha256_of(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  std::string text;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1) {
    for (const unsigned char byte : std::span(digest).first(size)) {
      text += fmt::format("{:02x}", byte);
    }
  }
  return text;
}

std::unexpected<Error> cannot_keep(int number) {
  return fail(Outcome::refused,
              fmt::format("cannot keep the file: {}", std::generic_category().message(number)));
}

Result<UniqueFd> keep(std::string_view bytes) {
  UniqueFd fd(memfd_create("livepatch", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) {
    return cannot_keep(errno);
  }
  while (!bytes.empty()) {
    const ssize_t written = write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) {
      return cannot_keep(errno);
    }
    bytes.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return cannot_keep(errno);
  }
  return fd;
}

}  // namespace

Result<std::size_t> SessionFiles::put(std::string_view sha256, std::string_view base64) {
  const auto bytes = qmp::base64_decode(base64);
  if (!bytes || bytes->empty()) {
    return fail(Outcome::refused, "\"data\" is no base64, or empty");
  }
  if (sha256_of(*bytes) != sha256) {
    return fail(Outcome::refused, "\"data\" is not the file with this SHA-256");
  }
  if (files_.contains(sha256)) {
    return bytes->size();
  }
  if (files_.size() >= kMaxFiles || bytes->size() > kMaxBytes - bytes_) {
    return fail(
        Outcome::refused,
        fmt::format("a session keeps at most {} files of together {} bytes", kMaxFiles, kMaxBytes));
  }
  auto fd = keep(*bytes);
  if (!fd) {
    return std::unexpected(std::move(fd.error()));
  }
  bytes_ += bytes->size();
  files_.emplace(sha256, *std::move(fd));
  return bytes->size();
}

int SessionFiles::find(std::string_view sha256) const {
  const auto found = files_.find(sha256);
  return found == files_.end() ? -1 : found->second.get();
}

}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/module_signature.h"

#include <array>
#include <cstdint>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::uint8_t kIdTypePkcs7 = 2;

/// struct module_signature of <linux/module_signature.h>: all bytes, so no padding.
struct Trailer {
  std::uint8_t algorithm;
  std::uint8_t hash;
  std::uint8_t id_type;
  std::uint8_t signer_length;
  std::uint8_t key_id_length;
  std::array<std::uint8_t, 3> padding;
  std::array<std::uint8_t, 4> signature_length;  ///< big-endian
};
static_assert(sizeof(Trailer) == 12);

std::uint32_t big_endian(const std::array<std::uint8_t, 4>& b) {
  return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
}

std::unexpected<Error> refuse_trailer(const std::string& what) {
  return std::unexpected(Error{Outcome::refused, "malformed module signature: " + what,
                               "Sign the module again with the kernel's scripts/sign-file.",
                               "signature-malformed"});
}

}  // namespace

Result<std::optional<ModuleSignature>> find_module_signature(ByteView file) {
  if (!file.text().ends_with(kSignatureMarker)) return std::nullopt;

  const std::size_t before_marker = file.size() - kSignatureMarker.size();
  if (before_marker < sizeof(Trailer)) return refuse_trailer("no room for its description");
  const std::size_t before_trailer = before_marker - sizeof(Trailer);
  const auto trailer = file.read<Trailer>(before_trailer);
  if (!trailer) return refuse_trailer("no room for its description");

  if (trailer->id_type != kIdTypePkcs7) {
    return refuse_trailer(fmt::format("type {} is not PKCS#7", trailer->id_type));
  }
  const auto& pad = trailer->padding;
  if (trailer->algorithm != 0 || trailer->hash != 0 || trailer->signer_length != 0 ||
      trailer->key_id_length != 0 || pad[0] != 0 || pad[1] != 0 || pad[2] != 0) {
    return refuse_trailer("fields that must be zero are not");
  }
  const std::uint32_t length = big_endian(trailer->signature_length);
  if (length == 0) return refuse_trailer("it is empty");
  if (length >= before_trailer) {
    return refuse_trailer(
        fmt::format("it claims {} bytes where only {} precede it", length, before_trailer));
  }
  return ModuleSignature{.begin = before_trailer - length, .size = length};
}

}  // namespace vpatch

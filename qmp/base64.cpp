// SPDX-License-Identifier: Apache-2.0
#include "qmp/base64.h"

#include <array>
#include <cassert>
#include <cstdint>

#include <openssl/evp.h>

namespace vpatch::qmp {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kInvalid = 0xFF;

constexpr std::array<std::uint8_t, 256> kValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(kInvalid);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}();

std::uint8_t value_of(char c) {
  return kValues[static_cast<unsigned char>(c)];
}

/// EVP_DecodeBlock() skips white space, reads '=' anywhere as a zero and ignores stray bits: what
/// it would forgive is refused here.
bool is_canonical(std::string_view text, std::size_t padding) {
  const std::string_view digits = text.substr(0, text.size() - padding);
  for (const char c : digits) {
    if (value_of(c) == kInvalid) {
      return false;
    }
  }
  // One '=' leaves two bits of the last digit unused, two leave four; they must be zero.
  const unsigned unused = padding == 1 ? 0x03U : padding == 2 ? 0x0FU : 0U;
  return digits.empty() || (value_of(digits.back()) & unused) == 0;
}

}  // namespace

std::string base64_encode(std::span<const std::byte> data) {
  assert(data.size() <= kBase64MaxInput);
  std::string text(base64_length(data.size()) + 1, '\0');  // EVP_EncodeBlock() writes a final NUL
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(data.data()),
                                     static_cast<int>(data.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
  if (text.empty()) {
    return std::string();
  }
  if (text.size() % 4 != 0 || text.size() > base64_length(kBase64MaxInput)) {
    return std::nullopt;
  }
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  if (!is_canonical(text, padding)) {
    return std::nullopt;
  }
  std::string bytes(text.size() / 4 * 3, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
  if (length < 0 || static_cast<std::size_t>(length) != bytes.size()) {
    return std::nullopt;
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace vpatch::qmp

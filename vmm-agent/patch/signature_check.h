// SPDX-License-Identifier: Apache-2.0
// Whether the signature at the end of a module is one of a given set of keys, over these very
// bytes: what the kernel's module loader would ask, asked on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

enum class SignatureState : std::uint8_t {
  missing,
  unchecked,  ///< no certificates are given to hold it against
  good,
  wrong_key,  ///< none of the given certificates is the signer's
  tampered,   ///< it is not over this content, or not made with the signer's key
  malformed,  ///< it is no signature that the kernel takes
};

/// "signature-missing", "signature-good", "signature-wrong-key", ...
std::string_view finding_id(SignatureState state);

struct SignatureCheck {
  SignatureState state = SignatureState::missing;
  std::string signer{};  ///< as the signature names it, printable; empty without one
  std::string detail = "the module is not signed";  ///< for people; empty when good
};

/// The certificates that are trusted to sign. As in the kernel's keyring each counts by itself:
/// chains and dates are not looked at.
class Certificates {
 public:
  Certificates();
  Certificates(Certificates&&) noexcept;
  Certificates& operator=(Certificates&&) noexcept;
  ~Certificates();

  /// Adds those of a PEM (one or more) or DER file, or of every file in a folder. Errors:
  /// Outcome::refused, id "bad-certificate", when one cannot be read, or there is none.
  Result<void> add(const std::filesystem::path& path);

  bool empty() const;

 private:
  friend SignatureCheck check_signature(std::span<const std::byte> file,
                                        const Certificates& trusted);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Looks at the signature of a whole module file. The bytes are untrusted. Without certificates a
/// well-formed signature is unchecked.
SignatureCheck check_signature(std::span<const std::byte> file, const Certificates& trusted);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// The signature that scripts/sign-file appends to a module: <ELF> <PKCS#7> <struct
// module_signature> <marker line>. Only its extent is read here; whether it is valid is a later
// question.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "vmm-agent/error.h"
#include "vmm-agent/patch/byte_view.h"

namespace vpatch {

/// What a signed module ends with.
inline constexpr std::string_view kSignatureMarker = "~Module signature appended~\n";

struct ModuleSignature {
  std::size_t begin;  ///< first byte of the PKCS#7 message, where the ELF must end
  std::size_t size;   ///< bytes of the PKCS#7 message
};

/// The signature at the end of `file`, or nothing when the file does not end with the marker line.
/// Errors: Outcome::refused for a trailer that the kernel would not take
/// (kernel/module_signature.c, mod_check_sig()).
Result<std::optional<ModuleSignature>> find_module_signature(ByteView file);

}  // namespace vpatch

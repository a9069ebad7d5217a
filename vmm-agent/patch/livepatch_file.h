// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

/// One entry of a klp_func array.
struct PatchedFunction {
  std::string name;        ///< klp_func.old_name: the function being replaced
  std::uint64_t position;  ///< klp_func.old_sympos: 0 = the name is unique, n = its n-th occurrence

  /// Name of the symbol at new_func. Empty when the symbol table has none (stripped), or new_func
  /// is NULL (a nop).
  std::string replacement;

  bool operator==(const PatchedFunction&) const = default;
};

/// Which of a klp_object's callbacks are set.
struct PatchCallbacks {
  bool pre_patch = false;
  bool post_patch = false;
  bool pre_unpatch = false;
  bool post_unpatch = false;

  bool operator==(const PatchCallbacks&) const = default;
};

/// "pre-patch, post-patch"; empty when none is set.
std::string callback_names(const PatchCallbacks& callbacks);

/// One entry of a klp_object array.
struct PatchedObject {
  std::string name;  ///< "vmlinux", or the name of a module
  std::vector<PatchedFunction> functions;
  PatchCallbacks callbacks;

  bool operator==(const PatchedObject&) const = default;
};

/// One entry of a klp_state array.
struct PatchState {
  std::uint64_t id;
  std::uint32_t version;

  bool operator==(const PatchState&) const = default;
};

/// What the module's klp_patch says, read from its data through its relocations.
struct PatchContents {
  /// Cumulative: takes the place of every older patch. Unset where only the module's code knows, as
  /// kpatch-build and klp-build have it.
  std::optional<bool> replace = false;
  std::vector<PatchedObject> objects;
  std::vector<PatchState> states;

  bool operator==(const PatchContents&) const = default;
};

/// A symbol that the module's own code refers to through a livepatch relocation, which the kernel's
/// livepatch core resolves.
struct NeededSymbol {
  std::string object;  ///< "vmlinux", or the name of a module
  std::string name;
  std::uint64_t position = 0;  ///< as PatchedFunction::position

  auto operator<=>(const NeededSymbol&) const = default;
};

/// A livepatch module as it lies on the host's disk, checked: ELF64 x86-64 relocatable, complete to
/// its last byte, marked as a livepatch. Built only by parse_livepatch() and read_livepatch().
struct LivepatchFile {
  std::vector<std::byte> bytes;  ///< the whole file, as it is delivered to a guest
  std::string sha256;            ///< of the whole file, lower-case hexadecimal
  std::string name;              ///< module name, as /sys/module and /sys/kernel/livepatch show it
  std::string version;           ///< MODULE_VERSION, or empty
  std::string description;
  std::string vermagic;    ///< whole string
  std::string release;     ///< first word of vermagic: the kernel release it was built for
  std::string srcversion;  ///< or empty
  std::string build_id;    ///< GNU build id note, lower-case hexadecimal, or empty
  std::vector<std::string> depends;
  bool is_signed = false;  ///< a module signature is appended (its validity is not checked here)
  std::vector<NeededSymbol> symbols;  ///< each once, in order

  /// Unset when the klp_patch structure cannot be found; then `contents_unknown` says why. Never
  /// guessed.
  std::optional<PatchContents> contents;
  std::string contents_unknown;
};

/// Checks and parses the bytes of a livepatch module. `origin` (a path) is only for messages.
/// Errors: Outcome::refused with what is wrong with the file and what to do. The bytes are
/// untrusted: every count, offset and length is checked.
Result<LivepatchFile> parse_livepatch(std::vector<std::byte> bytes, const std::string& origin);

/// Reads `path` (a regular file of at most 64 MiB) and parses it.
Result<LivepatchFile> read_livepatch(const std::filesystem::path& path);

}  // namespace vpatch

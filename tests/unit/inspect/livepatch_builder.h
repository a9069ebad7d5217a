// SPDX-License-Identifier: Apache-2.0
// Builds livepatch modules in memory, laid out as the kernel's compiler lays out a hand-written
// one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/inspect/elf_builder.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch::test {

struct LivepatchSpec {
  std::string name = "demo";
  std::vector<std::pair<std::string, std::string>> modinfo = {
      {"livepatch", "Y"},
      {"license", "GPL"},
      {"name", "demo"},
      {"vermagic", "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "},
  };
  /// A function with an empty `replacement` becomes a nop.
  PatchContents contents = {.replace = false,
                            .objects = {{.name = "vmlinux",
                                         .functions = {{.name = "cmdline_proc_show",
                                                        .position = 0,
                                                        .replacement = "new_cmdline"}},
                                         .callbacks = {}}},
                            .states = {}};
  bool section_symbols = true;  ///< relocations name sections and offsets, else named symbols
  bool data_symbols = true;     ///< symbols of the data exist, as before strip --strip-unneeded
  bool text_symbols = true;     ///< likewise of the code
  std::uint64_t object_size = 168;
  std::uint64_t function_size = 152;

  void set(const std::string& tag, const std::string& value);
  void unset(const std::string& tag);
};

/// The module's ELF, and where its parts are in .data.
struct Livepatch {
  ElfBuilder elf;
  std::uint32_t text = 0;
  std::uint32_t init_text = 0;
  std::uint32_t strings = 0;
  std::uint32_t data = 0;
  std::uint32_t this_module_symbol = 0;
  std::uint32_t enable_symbol = 0;
  std::uint64_t patch_at = 0;
  std::uint64_t objects_at = 0;
  std::uint64_t states_at = 0;
  std::vector<std::uint64_t> functions_at;  ///< one for each object

  Bytes build() const { return elf.build(); }
};

Livepatch make_livepatch(const LivepatchSpec& spec = {});

/// `elf` with a signature of `length` bytes as scripts/sign-file appends it.
Bytes append_signature(Bytes elf, std::uint32_t length);

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
// The fields that every description of a livepatch has, whatever structure they are in.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/patch/module_data.h"

namespace vpatch {

/// The most that are believed of one livepatch.
inline constexpr std::size_t kMaxObjects = 4096;
inline constexpr std::size_t kMaxFunctions = 65536;

/// "more than 4096 objects"
std::unexpected<Stop> stop_too_many(std::size_t limit, std::string_view what);

/// The function that the pointer at `pointer` points at, in the module or outside; nothing for
/// NULL. Corrupt: it points at data.
Reading<std::optional<Target>> read_code_pointer(const ElfModule& module, Place pointer);

/// The name of an object by the pointer at `pointer`: NULL stands for "vmlinux". Corrupt: what no
/// module can be called, and "vmlinux" itself.
Reading<std::string> read_object_name(const ElfModule& module, Place pointer);

/// Four function pointers in a row: pre_patch, post_patch, pre_unpatch, post_unpatch.
Reading<PatchCallbacks> read_callbacks(const ElfModule& module, Place first);

/// Where the fields of one function are.
struct FunctionPlaces {
  Place name;         ///< a pointer to a string
  Place replacement;  ///< a pointer to code, or NULL
  Place position;     ///< 8 bytes
};

Reading<PatchedFunction> read_function(const ElfModule& module, const FunctionPlaces& places);

}  // namespace vpatch

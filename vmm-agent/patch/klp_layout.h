// SPDX-License-Identifier: Apache-2.0
// Reads the klp_patch of a module, with its objects, functions and states, from the module's data.
//
// Only the leading fields of <linux/livepatch.h>'s structures are known here; they are the same
// since Linux 5.1. The sizes of klp_object and klp_func are not: they hold a kobject, whose size
// depends on the kernel's configuration. So the spacing of the arrays is taken from the relocations
// of their entries.
#pragma once

#include <optional>
#include <string>

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

struct KlpReading {
  std::optional<PatchContents> contents;
  std::string unknown;  ///< why `contents` is unset
};

/// Errors: Outcome::refused when the structures contradict themselves.
Result<KlpReading> read_klp_patch(const ElfModule& module);

}  // namespace vpatch

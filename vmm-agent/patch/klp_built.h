// SPDX-License-Identifier: Apache-2.0
// Modules of kpatch-build and of klp-build hold no klp_patch: they describe their changes in
// sections of their own, from which their code makes one when they are loaded. Only that code knows
// whether the patch is cumulative. Neither tool has states.
#pragma once

#include <optional>

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/patch/module_data.h"

namespace vpatch {

/// What those sections say; nothing when the module has none. Unknown: they are not laid out as
/// known here.
std::optional<Reading<PatchContents>> read_built_patch(const ElfModule& module);

}  // namespace vpatch

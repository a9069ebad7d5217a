// SPDX-License-Identifier: Apache-2.0
// Finds the struct klp_patch that a module gives to klp_enable_patch().
#pragma once

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/module_data.h"

namespace vpatch {

/// The only place that (1) starts with a pointer to __this_module, (2) goes on with a pointer to
/// data, and (3) is referred to from the code section that calls klp_enable_patch(). Unknown: none
/// or several such places.
Reading<Place> find_klp_patch(const ElfModule& module);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// The livepatch symbols of a module: names such as ".klp.sym.vmlinux.printk,0" that its
// ".klp.rela." sections refer to (Documentation/livepatch/module-elf-format.rst).
#pragma once

#include <vector>

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// Each symbol that a relocation uses, once. Errors: Outcome::refused for a name that the kernel
/// cannot take apart, for it would not load the module.
Result<std::vector<NeededSymbol>> read_needed_symbols(const ElfModule& module);

}  // namespace vpatch

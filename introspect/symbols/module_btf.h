// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/btf.h"
#include "introspect/symbols/symbol.h"

namespace vpatch::introspect {

/// The largest number of modules with type information believed.
inline constexpr int kMaxBtfModules = 4096;

/// The type information of one loaded module, read from guest memory: the kernel keeps it, once
/// checked, on its list btf_modules (kernel/bpf/btf.c).
///
/// `module` is the address of its struct module; `types` and `symbols` are the core kernel's, and
/// `kernel_btf`, which the result is based on, must outlive it.
///
/// Errc::not_found when the module has none, or the kernel keeps none (without
/// CONFIG_DEBUG_INFO_BTF_MODULES); Errc::torn when the list cannot be followed, Errc::corrupt when
/// it never ends or what it leads to is no type information; errors of the memory.
Result<Btf> module_btf(const VirtualMemory& memory, const Types& types,
                       const SymbolAddresses& symbols, const Btf& kernel_btf, GuestVirtAddr module);

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
// The first look at a file, before any library sees it: is it an x86-64 module at all, and is it
// all there?
#pragma once

#include <cstddef>

#include "vmm-agent/error.h"
#include "vmm-agent/patch/byte_view.h"

namespace vpatch {

/// Whether `file` starts as a relocatable ELF64 for x86-64 does. Errors: Outcome::refused, naming
/// what it is instead.
Result<void> check_elf_identity(ByteView file);

/// The byte after the last one that the ELF uses: headers, section table and sections. Requires
/// check_elf_identity(). Errors: Outcome::refused when any of them runs past the end of `file`
/// (truncated) or overlaps another.
Result<std::size_t> measure_elf(ByteView file);

}  // namespace vpatch

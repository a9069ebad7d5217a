// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "introspect/memory/file_memory.h"
#include "introspect/vcpu_registers.h"

namespace vpatch::introspect {

/// A guest's memory and vCPUs from a file: an ELF core as QEMU's dump-guest-memory (`virsh dump
/// --memory-only`) writes it, without paging and not compressed.
struct CoreFile {
  FileMemory memory;
  std::vector<VcpuRegisters> vcpus;  ///< by their order in the file, which is QEMU's
};

/// Opens a core; the file is only read. Errc::no_memory when it is no such core (with the reason: a
/// kdump-compressed file, one of another machine, one with paging), Errc::corrupt when its headers
/// lie, errors of FileMemory.
Result<CoreFile> open_core(const std::filesystem::path& path);

}  // namespace vpatch::introspect

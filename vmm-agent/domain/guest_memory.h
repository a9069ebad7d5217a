// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/memory/file_memory.h"
#include "introspect/memory/guest_memory.h"
#include "introspect/memory/unique_fd.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// One RAM block of the VMM: all of a small guest's RAM, or one NUMA node's. Where a piece says
/// "file offset", it is the offset in the block.
struct RamBlock {
  std::string name;  ///< QEMU's: "pc.ram", "ram-node0"
  std::vector<introspect::FileRegion> pieces;

  /// Bytes up to the end of its last piece.
  std::uint64_t size() const;
};

/// The RAM blocks in the address space "memory" from the monitor's `info mtree -f`, by name.
/// Device memory that is RAM (video, ROM shadows) is among them. Empty when the text holds none; at
/// most 1024 pieces. The text comes from QEMU and is still parsed with bounds.
std::vector<RamBlock> parse_ram_layout(std::string_view mtree);

/// Those of `blocks` that are the guest's RAM: the ones that memory backends of these names back,
/// or the largest when there is none of them.
std::vector<RamBlock> guest_ram(std::vector<RamBlock> blocks,
                                const std::vector<std::string>& backends);

/// One line of /proc/PID/maps.
struct HostMapping {
  std::uint64_t start = 0, end = 0;                  ///< host addresses
  std::uint64_t offset = 0;                          ///< in the file, bytes
  std::uint64_t device_major = 0, device_minor = 0;  ///< of the file
  std::uint64_t inode = 0;                           ///< 0 for memory without a file
  bool shared = false;
};

/// The mapping that holds `address`, from the text of /proc/PID/maps.
std::optional<HostMapping> find_mapping(std::string_view maps, std::uint64_t address);

/// How guest memory is reached, in the order in which open_guest_memory() tries them.
enum class MemoryBackend : std::uint8_t {
  mapped,   ///< shared memory of the VMM, mapped here
  file,     ///< shared memory of the VMM, read by pread()
  process,  ///< the VMM's private memory, by process_vm_readv()
  core,     ///< an ELF core file
};

/// A stable word for each: "mapped", "file", "process", "core".
std::string_view to_string(MemoryBackend backend);

struct OpenedMemory {
  std::unique_ptr<introspect::GuestMemory> memory;
  MemoryBackend backend{};
  introspect::UniqueFd vmm{};  ///< a pidfd of the VMM; none for a core file
};

/// Whether the process behind a pidfd has ended.
bool has_ended(const introspect::UniqueFd& pidfd);

/// Opens the RAM of a VM on this host for reading, by the fastest way there is.
/// Outcome::unreachable with the reason and the next step when there is none: no permission,
/// another host, encrypted.
Result<OpenedMemory> open_guest_memory(Domain& domain, const qmp::CallOptions& options);

}  // namespace vpatch

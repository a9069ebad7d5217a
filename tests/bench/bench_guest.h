// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "introspect/memory/mapped_memory.h"
#include "introspect/memory/process_memory.h"
#include "tests/vm/test_vm.h"

namespace vpatch::bench {

/// A running guest to measure on, its memory open to both backends: QEMU has it in a shared memfd,
/// which is mapped, and which process_vm_readv() reaches in QEMU as well as private memory. Throws
/// std::runtime_error when anything fails: a benchmark without its guest has nothing to say.
class BenchGuest {
 public:
  BenchGuest(const std::string& kernel, unsigned memory_mib);

  const test::TestVm& vm() const { return vm_; }
  unsigned memory_mib() const { return memory_mib_; }

  /// A new mapping, in which no page has been touched yet.
  introspect::MappedMemory map() const;
  introspect::ProcessMemory attach_process() const;

  /// Makes the guest touch `mib` of its memory and give it back to itself.
  void touch(unsigned mib) const;
  /// All of it that is free.
  void touch_all() const;
  /// How much of it the host holds.
  std::uint64_t populated_mib() const;

  /// Starts `count` tasks that sleep.
  void add_tasks(std::size_t count) const;

  /// Writes the guest's core, by QEMU's dump-guest-memory, which pauses it meanwhile.
  void dump(const std::string& path) const;

 private:
  void find_memory();

  unsigned memory_mib_;
  test::TestVm vm_;
  pid_t pid_ = 0;
  std::string backing_;  // QEMU's descriptor of the memfd, in /proc
  std::vector<introspect::FileRegion> in_file_;
  std::vector<introspect::ProcessRegion> in_process_;
};

/// The value, or std::runtime_error with what went wrong.
template <class Expected>
auto must(Expected result) {
  if (!result) {
    throw std::runtime_error(result.error().what);
  }
  return *std::move(result);
}

}  // namespace vpatch::bench

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/kvm/machine.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "introspect/memory/backing_file.h"
#include "introspect/memory/host_error.h"
#include "vmm-agent/kvm/lists.h"

namespace vpatch::kvm {
namespace {

using introspect::Errc;
using introspect::fail;
using introspect::fail_errno;
using introspect::kPageSize;
using introspect::Result;
using introspect::UniqueFd;
using introspect::UniqueMapping;

// Intel CPUs without unrestricted guests want three pages for real mode; no RAM is put there.
constexpr unsigned long kTssAddress = 0xfffbd000;

/// All features KVM can give a vCPU.
Result<void> give_features(int kvm, int vcpu) {
  List<kvm_cpuid_entry2, 256> features;
  if (::ioctl(kvm, kGetSupportedCpuid, &features) != 0) {
    return fail_errno("ask KVM for the CPU features it supports", errno);
  }
  if (::ioctl(vcpu, kSetCpuid2, &features) != 0) {
    return fail_errno("give a vCPU its features", errno);
  }
  return {};
}

}  // namespace

Machine::Machine(UniqueFd kvm, UniqueFd vm, std::size_t run_size)
    : kvm_(std::move(kvm)), vm_(std::move(vm)), run_size_(run_size) {}

Result<Machine> Machine::create() {
  UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm) {
    return fail_errno("open /dev/kvm", errno);
  }
  const int version = ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION) {
    return fail(Errc::io, fmt::format("KVM has the unknown API version {}", version));
  }
  const int run_size = ::ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < static_cast<int>(sizeof(kvm_run))) {
    return fail_errno("ask KVM for the size of a vCPU's shared memory", run_size < 0 ? errno : EIO);
  }
  UniqueFd vm(::ioctl(kvm.get(), KVM_CREATE_VM, 0));
  if (!vm) {
    return fail_errno("create a VM", errno);
  }
  if (::ioctl(vm.get(), KVM_SET_TSS_ADDR, kTssAddress) != 0) {
    return fail_errno("place the VM's real-mode pages", errno);
  }
  return Machine(std::move(kvm), std::move(vm), static_cast<std::size_t>(run_size));
}

Result<PhysRange> Machine::free_range(GuestPhysAddr start, std::uint64_t size) const {
  const auto range = PhysRange::make(start, size);
  const bool aligned = (start.value() | size) % kPageSize == 0;
  const bool taken = range && std::ranges::any_of(slots_, [&](const Slot& slot) {
                       return slot.guest.overlaps(*range);
                     });
  if (!range || range->empty() || !aligned || taken) {
    return fail(Errc::out_of_range,
                fmt::format("guest RAM {:#x} + {:#x} {}", start.value(), size,
                            taken ? "overlaps other RAM" : "is empty, unaligned or too large"));
  }
  return *range;
}

Result<void> Machine::add_memory(GuestPhysAddr start, std::uint64_t size) {
  const auto range = free_range(start, size);
  if (!range) {
    return std::unexpected(range.error());
  }
  UniqueMapping bytes(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                      size);
  if (!bytes) {
    return fail_errno("map guest RAM", errno);
  }
  return add_slot({*range, std::move(bytes), {}, 0});
}

Result<void> Machine::add_memory(GuestPhysAddr start, std::uint64_t size, int fd,
                                 std::uint64_t offset) {
  const auto range = free_range(start, size);
  if (!range) {
    return std::unexpected(range.error());
  }
  // A file description of its own, because looking for data moves the position.
  UniqueFd file(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDWR | O_CLOEXEC));
  if (!file) {
    return fail_errno("open the file of guest RAM", errno);
  }
  const auto length = introspect::readable_size(file.get());
  if (!length) {
    return std::unexpected(length.error());
  }
  if (offset % kPageSize != 0 || size > *length || offset > *length - size) {
    return fail(
        Errc::out_of_range,
        fmt::format("guest RAM of {:#x} bytes at file offset {:#x} is unaligned or does not "
                    "fit the file's {:#x} bytes",
                    size, offset, *length));
  }
  UniqueMapping bytes(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(),
                             static_cast<off_t>(offset)),
                      size);
  if (!bytes) {
    return fail_errno("map guest RAM", errno);
  }
  return add_slot({*range, std::move(bytes), std::move(file), offset});
}

Result<void> Machine::add_slot(Slot slot) {
  kvm_userspace_memory_region region{};
  region.slot = static_cast<std::uint32_t>(slots_.size());
  region.guest_phys_addr = slot.guest.start().value();
  region.memory_size = slot.guest.size();
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(slot.bytes.start());
  if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) {
    return fail_errno(fmt::format("add guest RAM at {:#x}", slot.guest.start().value()), errno);
  }
  slots_.push_back(std::move(slot));
  return {};
}

std::optional<std::span<std::byte>> Machine::bytes(GuestPhysAddr start, std::uint64_t size) {
  for (const Slot& slot : slots_) {
    if (slot.guest.holds(start, size)) {
      return std::span(slot.bytes.start() + (start.value() - slot.guest.start().value()), size);
    }
  }
  return std::nullopt;
}

Result<Vcpu> Machine::add_vcpu() {
  UniqueFd fd(::ioctl(vm_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(vcpus_)));
  if (!fd) {
    return fail_errno(fmt::format("create vCPU {}", vcpus_), errno);
  }
  const std::uint32_t index = vcpus_++;
  if (auto given = give_features(kvm_.get(), fd.get()); !given) {
    return std::unexpected(std::move(given).error());
  }
  UniqueMapping shared(::mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0),
                       run_size_);
  if (!shared) {
    return fail_errno(fmt::format("map the shared memory of vCPU {}", index), errno);
  }
  return Vcpu(index, std::move(fd), std::move(shared));
}

}  // namespace vpatch::kvm

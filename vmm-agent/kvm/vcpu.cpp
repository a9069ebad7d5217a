// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/kvm/vcpu.h"

#include <atomic>
#include <cerrno>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/ioctl.h>

#include "introspect/memory/host_error.h"
#include "vmm-agent/kvm/lists.h"

namespace vpatch::kvm {
namespace {

using introspect::fail_errno;
using introspect::GuestPhysAddr;
using introspect::GuestVirtAddr;
using introspect::Result;

constexpr std::uint32_t kMsrKernelGsBase = 0xc0000102;

std::unexpected<introspect::Error> failed(std::string_view attempted, std::uint32_t index) {
  const int error = errno;
  return fail_errno(fmt::format("{} of vCPU {}", attempted, index), error);
}

Result<std::uint64_t> read_msr(int fd, std::uint32_t vcpu, std::uint32_t index) {
  List<kvm_msr_entry, 1> list;
  list.entries[0].index = index;
  if (::ioctl(fd, kGetMsrs, &list) != 1) {
    return failed(fmt::format("read the MSR {:#x}", index), vcpu);
  }
  return list.entries[0].data;
}

}  // namespace

Vcpu::Vcpu(std::uint32_t index, introspect::UniqueFd fd, introspect::UniqueMapping shared)
    : index_(index), fd_(std::move(fd)), shared_(std::move(shared)) {}

kvm_run* Vcpu::shared() const {
  return reinterpret_cast<kvm_run*>(shared_.start());
}

Result<kvm_regs> Vcpu::regs() const {
  kvm_regs regs{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &regs) != 0) {
    return failed("read the registers", index_);
  }
  return regs;
}

Result<void> Vcpu::set_regs(const kvm_regs& regs) {
  if (::ioctl(fd_.get(), KVM_SET_REGS, &regs) != 0) {
    return failed("set the registers", index_);
  }
  return {};
}

Result<kvm_sregs> Vcpu::sregs() const {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0) {
    return failed("read the system registers", index_);
  }
  return sregs;
}

Result<void> Vcpu::set_sregs(const kvm_sregs& sregs) {
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &sregs) != 0) {
    return failed("set the system registers", index_);
  }
  return {};
}

Result<introspect::VcpuRegisters> Vcpu::registers() const {
  const auto general = regs();
  if (!general) {
    return std::unexpected(general.error());
  }
  const auto system = sregs();
  if (!system) {
    return std::unexpected(system.error());
  }
  const auto kernel_gs = read_msr(fd_.get(), index_, kMsrKernelGsBase);
  if (!kernel_gs) {
    return std::unexpected(kernel_gs.error());
  }
  kvm_mp_state state{};
  const bool told = ::ioctl(fd_.get(), KVM_GET_MP_STATE, &state) == 0;
  return introspect::VcpuRegisters{.index = index_,
                                   .rip = GuestVirtAddr(general->rip),
                                   .rsp = GuestVirtAddr(general->rsp),
                                   .rbp = general->rbp,
                                   .r10 = general->r10,
                                   .r13 = general->r13,
                                   .rdi = general->rdi,
                                   .rdx = general->rdx,
                                   .rflags = general->rflags,
                                   .cr3 = system->cr3,
                                   .cr4 = system->cr4,
                                   .gs_base = system->gs.base,
                                   .kernel_gs_base = *kernel_gs,
                                   .cs = system->cs.selector,
                                   .halted = told && state.mp_state == KVM_MP_STATE_HALTED};
}

Result<std::optional<GuestPhysAddr>> Vcpu::translate(GuestVirtAddr address) const {
  kvm_translation translation{};
  translation.linear_address = address.value();
  if (::ioctl(fd_.get(), KVM_TRANSLATE, &translation) != 0) {
    return failed(fmt::format("translate {:#x} by the page tables", address.value()), index_);
  }
  if (translation.valid == 0) {
    return std::nullopt;
  }
  return GuestPhysAddr(translation.physical_address);
}

Result<const kvm_run*> Vcpu::run() {
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) {
    return shared();
  }
  if (errno == EINTR || errno == EAGAIN) {
    return nullptr;
  }
  return failed("run the guest", index_);
}

void Vcpu::request_exit(bool wanted) {
  // The kernel looks at this byte while it runs the guest for another thread.
  std::atomic_ref(shared()->immediate_exit).store(wanted ? 1 : 0);
}

}  // namespace vpatch::kvm

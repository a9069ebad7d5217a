// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/operation/doctor.h"

namespace vpatch {
namespace {

constexpr int kKvmApiVersion = 12;

bool cpu_has_virtualization() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("flags")) {
      line += ' ';
      return line.find(" vmx ") != std::string::npos || line.find(" svm ") != std::string::npos;
    }
  }
  return false;
}

Check no_kvm(const std::string& why) {
  return {"kvm", Health::warning, fmt::format("KVM is not usable here: {}", why),
          "VMs run under emulation (TCG): they work, slower. Use a host with VT-x or AMD-V, or "
          "enable nesting."};
}

}  // namespace

Check check_kvm() {
  const introspect::UniqueFd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (kvm.get() < 0) {
    return no_kvm("/dev/kvm: " + std::generic_category().message(errno));
  }
  if (ioctl(kvm.get(), KVM_GET_API_VERSION, 0) != kKvmApiVersion) {
    return no_kvm("unknown API version");
  }
  const introspect::UniqueFd vm(ioctl(kvm.get(), KVM_CREATE_VM, 0));
  if (vm.get() < 0) {
    return no_kvm("KVM_CREATE_VM: " + std::generic_category().message(errno));
  }
  const introspect::UniqueFd vcpu(ioctl(vm.get(), KVM_CREATE_VCPU, 0));
  if (vcpu.get() < 0) {
    return no_kvm("KVM_CREATE_VCPU: " + std::generic_category().message(errno));
  }
  if (!cpu_has_virtualization()) {
    return no_kvm(
        "/dev/kvm opens, but the CPU shows neither vmx nor svm, so whole guests may not boot on "
        "it");
  }
  return {"kvm", Health::ok, "KVM works: a VM and a vCPU were made", ""};
}

}  // namespace vpatch

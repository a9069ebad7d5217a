// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <linux/kvm.h>
#include <sys/ioctl.h>

namespace vpatch::kvm {

// Since Linux 6.0 <linux/kvm.h> ends struct kvm_cpuid2 and struct kvm_msrs with an empty struct,
// which has no size in C and one in C++: there both the layout and the ioctl's number, which holds
// the size, are wrong. These are the same lists as the kernel knows them.

struct ListHeader {
  std::uint32_t count = 0;
  std::uint32_t pad = 0;
};

template <class Entry, std::size_t Count>
struct List {
  ListHeader header{Count, 0};
  std::array<Entry, Count> entries{};
};

inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, ListHeader);
inline constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, ListHeader);
inline constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, ListHeader);

}  // namespace vpatch::kvm

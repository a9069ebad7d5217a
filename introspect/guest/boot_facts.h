// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "introspect/boot/boot_evidence.h"
#include "introspect/boot/vmcoreinfo_text.h"
#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/btf.h"
#include "introspect/symbols/kallsyms.h"

namespace vpatch::introspect {

/// What was learned of one boot of a guest and cannot change until the next: plain values, so that
/// they can be kept in a file. An entry without value says that the kernel does not have it.
struct BootFacts {
  GuestPhysAddr note;            ///< where the VMCOREINFO note lies
  Evidence evidence{};           ///< how sure it was that the note is the running kernel's
  VmcoreinfoText text;           ///< what it says
  std::uint64_t boot_stamp = 0;  ///< start time of process 1, in ns since boot: differs by boot

  template <class T>
  using Table = std::map<std::string, std::optional<T>, std::less<>>;
  Table<Member> members;       ///< "type path"
  Table<std::uint64_t> sizes;  ///< by type, bytes
  Table<std::int64_t> enumerators;
  Table<std::uint64_t> symbols;  ///< of the core kernel

  friend bool operator==(const BootFacts&, const BootFacts&) = default;
};

/// Symbols and types of one boot: answered from its facts where they know, and otherwise from guest
/// memory, which the facts then remember. Kallsyms and BTF are read when first needed.
///
/// One thread at a time. `memory` and `facts` must outlive it.
class KernelNames final : public Types, public SymbolAddresses {
 public:
  KernelNames(const VirtualMemory& memory, BootFacts& facts);

  Result<Member> member(std::string_view type, std::string_view path) const override;
  Result<std::uint64_t> size_of(std::string_view type) const override;
  Result<std::int64_t> enumerator(std::string_view name) const override;
  Result<GuestVirtAddr> address_of(std::string_view name) const override;

  /// The whole tables; the reference is good as long as this object.
  Result<std::reference_wrapper<const Kallsyms>> kallsyms() const;
  Result<std::reference_wrapper<const Btf>> btf() const;

 private:
  const VirtualMemory* memory_;
  BootFacts* facts_;
  mutable std::unique_ptr<const Kallsyms> kallsyms_;
  mutable std::unique_ptr<const Btf> btf_;
};

}  // namespace vpatch::introspect

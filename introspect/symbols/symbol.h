// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "introspect/error.h"
#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// A name of the kernel or of a module, as kallsyms knows it.
struct Symbol {
  std::string name;  ///< printable
  GuestVirtAddr address;
  std::uint64_t size = 0;  ///< bytes up to the next symbol
  char type = '?';         ///< as nm prints it: 'T', 't', 'D', ...

  friend bool operator==(const Symbol&, const Symbol&) = default;
};

/// Where the kernel keeps what has a name: the core kernel's symbols only, no module's. Per-CPU
/// variables have their offset in the per-CPU area for an address.
class SymbolAddresses {
 public:
  SymbolAddresses() = default;
  SymbolAddresses(const SymbolAddresses&) = delete;
  SymbolAddresses& operator=(const SymbolAddresses&) = delete;
  virtual ~SymbolAddresses() = default;

  /// The first symbol of that name. Errc::not_found when there is none.
  virtual Result<GuestVirtAddr> address_of(std::string_view name) const = 0;

 protected:
  SymbolAddresses(SymbolAddresses&&) = default;
  SymbolAddresses& operator=(SymbolAddresses&&) = default;
};

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect::testing {

/// Type information from a table: a member is "type.path", and what is not told is not there.
class FakeTypes final : public Types {
 public:
  std::map<std::string, Member, std::less<>> members;
  std::map<std::string, std::uint64_t, std::less<>> sizes;
  std::map<std::string, std::int64_t, std::less<>> enumerators;

  /// A member of `size` bytes at the byte `offset`.
  void put(std::string_view name, std::uint64_t offset, std::uint64_t size = 8) {
    members[std::string(name)] = Member{offset * 8, size * 8, 1};
  }

  Result<Member> member(std::string_view type, std::string_view path) const override {
    return find(members, std::string(type) + "." + std::string(path));
  }
  Result<std::uint64_t> size_of(std::string_view type) const override { return find(sizes, type); }
  Result<std::int64_t> enumerator(std::string_view name) const override {
    return find(enumerators, name);
  }

 private:
  template <class T>
  static Result<T> find(const std::map<std::string, T, std::less<>>& table, std::string_view name) {
    const auto found = table.find(name);
    if (found == table.end()) {
      return fail(Errc::not_found, "no " + std::string(name));
    }
    return found->second;
  }
};

class FakeSymbols final : public SymbolAddresses {
 public:
  std::map<std::string, std::uint64_t, std::less<>> addresses;

  Result<GuestVirtAddr> address_of(std::string_view name) const override {
    const auto found = addresses.find(name);
    if (found == addresses.end()) {
      return fail(Errc::not_found, "no " + std::string(name));
    }
    return GuestVirtAddr(found->second);
  }
};

}  // namespace vpatch::introspect::testing

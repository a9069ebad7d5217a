// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/module_btf.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

/// Where struct btf_module and struct btf have what is needed.
struct Layout {
  std::uint64_t list = 0, module = 0, btf = 0;  // in struct btf_module
  std::uint64_t data = 0, data_size = 0;        // in struct btf
};

Result<Layout> probe(const Types& types) {
  Layout layout;
  struct Wanted {
    std::string_view type, member;
    std::uint64_t size;
    std::uint64_t* offset;
  };
  const std::array<Wanted, 5> all{{{"btf_module", "list.next", 8, &layout.list},
                                   {"btf_module", "module", 8, &layout.module},
                                   {"btf_module", "btf", 8, &layout.btf},
                                   {"btf", "data", 8, &layout.data},
                                   {"btf", "data_size", 4, &layout.data_size}}};
  for (const Wanted& wanted : all) {
    const auto member = types.member(wanted.type, wanted.member);
    if (!member) {
      return std::unexpected(member.error());
    }
    if (member->size() != wanted.size) {
      return fail(Errc::corrupt,
                  fmt::format("{}.{} has {} bits", wanted.type, wanted.member, member->bit_size));
    }
    *wanted.offset = member->offset();
  }
  return layout;
}

/// A pointer at `offset` bytes from `base`; offsets come from the guest too.
Result<GuestVirtAddr> pointer_at(const VirtualMemory& memory, GuestVirtAddr base,
                                 std::uint64_t offset) {
  const auto address = base.plus(offset);
  if (!address) {
    return fail(Errc::out_of_range, "an address past the end of the address space");
  }
  return read_pointer(memory, *address);
}

/// The struct btf of `module`.
Result<GuestVirtAddr> find_btf(const VirtualMemory& memory, const Layout& layout,
                               GuestVirtAddr head, GuestVirtAddr module) {
  auto node = read_pointer(memory, head);
  for (int seen = 0; seen < kMaxBtfModules; ++seen) {
    if (!node) {
      return fail(Errc::torn, fmt::format("the list btf_modules breaks: {}", node.error().what));
    }
    if (*node == head) {
      return fail(Errc::not_found, "the module has no type information");
    }
    const GuestVirtAddr entry(node->value() - layout.list);  // wraps only to what cannot be read
    const auto owner = pointer_at(memory, entry, layout.module);
    if (!owner) {
      return fail(Errc::torn, fmt::format("the list btf_modules breaks: {}", owner.error().what));
    }
    if (*owner == module) {
      return pointer_at(memory, entry, layout.btf);
    }
    node = read_pointer(memory, *node);
  }
  return fail(Errc::corrupt, "the list btf_modules never ends");
}

Result<std::vector<std::byte>> read_blob(const VirtualMemory& memory, const Layout& layout,
                                         GuestVirtAddr btf) {
  const auto data = pointer_at(memory, btf, layout.data);
  if (!data) {
    return std::unexpected(data.error());
  }
  const auto size_at = btf.plus(layout.data_size);
  const auto size = size_at ? read_value<std::uint32_t>(memory, *size_at)
                            : fail(Errc::out_of_range, "struct btf runs past all addresses");
  if (!size) {
    return std::unexpected(size.error());
  }
  if (*size > kMaxBtfSize) {
    return fail(Errc::corrupt, fmt::format("it would have {} bytes", *size));
  }
  std::vector<std::byte> blob(*size);
  if (auto done = memory.read(*data, blob); !done) {
    return std::unexpected(std::move(done).error());
  }
  return blob;
}

Result<Btf> load(const VirtualMemory& memory, const Types& types, const SymbolAddresses& symbols,
                 const Btf& kernel_btf, GuestVirtAddr module) {
  const auto head = symbols.address_of("btf_modules");
  if (!head) {
    return std::unexpected(head.error());
  }
  const auto layout = probe(types);
  if (!layout) {
    return std::unexpected(layout.error());
  }
  const auto btf = find_btf(memory, *layout, *head, module);
  if (!btf) {
    return std::unexpected(btf.error());
  }
  auto blob = read_blob(memory, *layout, *btf);
  if (!blob) {
    return std::unexpected(std::move(blob).error());
  }
  return Btf::parse(*std::move(blob), &kernel_btf);
}

}  // namespace

Result<Btf> module_btf(const VirtualMemory& memory, const Types& types,
                       const SymbolAddresses& symbols, const Btf& kernel_btf,
                       GuestVirtAddr module) {
  auto btf = load(memory, types, symbols, kernel_btf, module);
  if (!btf) {
    return std::unexpected(std::move(btf).error().in_context("read a module's type information"));
  }
  return btf;
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/boot/vmcoreinfo_text.h"
#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"

namespace vpatch::introspect {

/// The largest number of symbols believed; kernels have 80,000 to 250,000.
inline constexpr std::uint32_t kMaxKallsyms = 2'000'000;

/// The core kernel's symbol table, compressed in guest memory as scripts/kallsyms.c writes it.
/// load() copies the tables; names are decoded when asked for. Both ways in which kernels store
/// addresses (with per-CPU symbols kept absolute, or plain offsets) are told apart by symbols that
/// VMCOREINFO names too. Threads: never changes, any number may ask.
class Kallsyms final : public SymbolAddresses {
 public:
  /// Finds the tables by the kallsyms_* symbols of the VMCOREINFO text (Linux 6.0 on).
  /// Errc::not_found without them, Errc::corrupt when the tables make no sense.
  static Result<Kallsyms> load(const VirtualMemory& memory, const VmcoreinfoText& info);

  Result<GuestVirtAddr> address_of(std::string_view name) const override;

  /// For each of `names` the address of its first symbol, in one pass over all.
  std::vector<std::optional<GuestVirtAddr>> addresses_of(
      std::span<const std::string_view> names) const;

  /// Every symbol of that name, in the order of livepatch's sympos; at most `max`.
  std::vector<Symbol> named(std::string_view name, std::size_t max = 64) const;
  /// The same for each of `names`, in one pass over all.
  std::vector<std::vector<Symbol>> all_named(std::span<const std::string_view> names,
                                             std::size_t max = 64) const;

  /// The symbol that covers `address` as the kernel would print it: the first of several at the
  /// same address, its size up to the next higher one. Code is always known, data with
  /// CONFIG_KALLSYMS_ALL; nothing below the image's first symbol or from its last on, which marks
  /// the end, and no per-CPU symbol.
  std::optional<Symbol> at(GuestVirtAddr address) const;

  /// Symbol number `index`, which must be below size(); they are in rising order of address.
  Symbol symbol(std::size_t index) const;

  /// How many there are.
  std::size_t size() const { return addresses_.size(); }

 private:
  /// What one byte of a compressed name stands for: a part of token_text_.
  struct Token {
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
  };
  /// What tells most names apart without decoding them.
  struct Shape {
    std::size_t length = 0;
    char first = '\0';
  };
  class Loader;

  Kallsyms() = default;

  std::span<const std::byte> compressed(std::size_t index) const;
  Shape shape(std::size_t index) const;
  /// The type letter, then the name; cut to what a name may have.
  void decode(std::size_t index, std::string& into) const;
  /// For each of `names` the number of its first symbol.
  std::vector<std::optional<std::size_t>> first_of(std::span<const std::string_view> names) const;

  std::vector<std::byte> names_;             // compressed, each after its length
  std::vector<std::uint32_t> name_offsets_;  // of each symbol's length in names_
  std::vector<std::byte> token_text_;
  std::array<Token, 256> tokens_{};
  std::vector<std::uint64_t> addresses_;  // rising
  std::size_t first_in_image_ = 0;        // those before it are per-CPU
};

}  // namespace vpatch::introspect

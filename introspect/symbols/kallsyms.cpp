// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/kallsyms.h"

#include <algorithm>
#include <bitset>
#include <unordered_map>

#include <fmt/format.h>

#include "introspect/symbols/name_index.h"

namespace vpatch::introspect {
namespace {

/// A guess, right for all that are searched for and wrong for most others.
class Wanted {
 public:
  void add(std::string_view name) { bits_.set(place(name.size(), name.front())); }
  bool maybe(std::size_t length, char first) const { return bits_.test(place(length, first)); }

 private:
  static std::size_t place(std::size_t length, char first) {
    return (length % 64) * 256 + static_cast<unsigned char>(first);
  }

  std::bitset<std::size_t{64} * 256> bits_;
};

}  // namespace

Result<GuestVirtAddr> Kallsyms::address_of(std::string_view name) const {
  const auto address = addresses_of(std::span(&name, 1)).front();
  if (!address) {
    return fail(Errc::not_found, fmt::format("the kernel has no symbol {}", name));
  }
  return *address;
}

std::vector<std::optional<GuestVirtAddr>> Kallsyms::addresses_of(
    std::span<const std::string_view> names) const {
  std::vector<std::optional<GuestVirtAddr>> addresses;
  addresses.reserve(names.size());
  for (const auto index : first_of(names)) {
    addresses.push_back(index ? std::optional(GuestVirtAddr(addresses_[*index])) : std::nullopt);
  }
  return addresses;
}

std::vector<std::optional<std::size_t>> Kallsyms::first_of(
    std::span<const std::string_view> names) const {
  Wanted wanted;
  std::unordered_map<std::string_view, std::optional<std::size_t>> found;
  for (const std::string_view name : names) {
    if (!name.empty()) {
      wanted.add(name);
      found.emplace(name, std::nullopt);
    }
  }
  std::size_t missing = found.size();
  std::string text;
  for (std::size_t index = 0; index < name_offsets_.size() && missing > 0; ++index) {
    const Shape seen = shape(index);
    if (!wanted.maybe(seen.length, seen.first)) {
      continue;
    }
    decode(index, text);
    const auto entry = found.find(std::string_view(text).substr(1));
    if (entry != found.end() && !entry->second) {
      entry->second = index;
      --missing;
    }
  }
  std::vector<std::optional<std::size_t>> indexes;
  indexes.reserve(names.size());
  for (const std::string_view name : names) {
    indexes.push_back(name.empty() ? std::nullopt : found.find(name)->second);
  }
  return indexes;
}

std::vector<Symbol> Kallsyms::named(std::string_view name, std::size_t max) const {
  return std::move(all_named(std::span(&name, 1), max).front());
}

std::vector<std::vector<Symbol>> Kallsyms::all_named(std::span<const std::string_view> names,
                                                     std::size_t max) const {
  Wanted wanted;
  std::unordered_map<std::string_view, std::vector<Symbol>> found;
  for (const std::string_view name : names) {
    if (!name.empty()) {
      wanted.add(name);
      found.emplace(name, std::vector<Symbol>());
    }
  }
  std::string text;
  for (std::size_t index = 0; index < name_offsets_.size(); ++index) {
    const Shape seen = shape(index);
    if (!wanted.maybe(seen.length, seen.first)) {
      continue;
    }
    decode(index, text);
    const auto entry = found.find(std::string_view(text).substr(1));
    if (entry != found.end() && entry->second.size() < max) {
      entry->second.push_back(symbol(index));
    }
  }
  std::vector<std::vector<Symbol>> symbols;
  symbols.reserve(names.size());
  for (const std::string_view name : names) {
    symbols.push_back(name.empty() ? std::vector<Symbol>() : found.find(name)->second);
  }
  return symbols;
}

std::optional<Symbol> Kallsyms::at(GuestVirtAddr address) const {
  const auto image = std::span(addresses_).subspan(first_in_image_);
  if (image.empty() || address.value() < image.front() || address.value() >= image.back()) {
    return std::nullopt;
  }
  const auto after = std::ranges::upper_bound(image, address.value());
  const auto first = std::ranges::lower_bound(image, *std::prev(after));
  return symbol(first_in_image_ + static_cast<std::size_t>(first - image.begin()));
}

Symbol Kallsyms::symbol(std::size_t index) const {
  std::string text;
  decode(index, text);
  const std::string_view name = std::string_view(text).substr(1);
  Symbol symbol{.name = printable_text(std::as_bytes(std::span(name))),
                .address = GuestVirtAddr(addresses_[index]),
                .type = text.front()};
  // Per-CPU symbols and the image are worlds apart.
  const auto end = index < first_in_image_
                       ? addresses_.begin() + static_cast<std::ptrdiff_t>(first_in_image_)
                       : addresses_.end();
  const auto next = std::upper_bound(addresses_.begin(), end, addresses_[index]);
  symbol.size = next == end ? 0 : *next - addresses_[index];
  return symbol;
}

std::span<const std::byte> Kallsyms::compressed(std::size_t index) const {
  const std::size_t start = name_offsets_[index];
  const std::size_t end =
      index + 1 < name_offsets_.size() ? name_offsets_[index + 1] : names_.size();
  const bool two_bytes = (names_[start] & std::byte{0x80}) != std::byte{0};
  return std::span(names_).subspan(start, end - start).subspan(two_bytes ? 2 : 1);
}

Kallsyms::Shape Kallsyms::shape(std::size_t index) const {
  std::size_t total = 0;
  char first = '\0';
  for (const std::byte byte : compressed(index)) {
    const Token& token = tokens_[std::to_integer<std::size_t>(byte)];
    if (total < 2 && token.length > 1 - total) {
      first = static_cast<char>(token_text_[token.offset + 1 - total]);
    }
    total += token.length;
  }
  return {total - std::min<std::size_t>(total, 1), first};
}

void Kallsyms::decode(std::size_t index, std::string& into) const {
  into.clear();
  for (const std::byte byte : compressed(index)) {
    const Token& token = tokens_[std::to_integer<std::size_t>(byte)];
    const auto* text = reinterpret_cast<const char*>(token_text_.data()) + token.offset;
    into.append(text, token.length);
    if (into.size() > kMaxName) {
      into.resize(kMaxName + 1);
      break;
    }
  }
  if (into.empty()) {
    into.push_back('?');
  }
}

}  // namespace vpatch::introspect

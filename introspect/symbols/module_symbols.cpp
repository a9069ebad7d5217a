// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/module_symbols.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <unordered_map>
#include <utility>

#include <elf.h>
#include <fmt/format.h>

#include "introspect/symbols/name_index.h"
#include "introspect/symbols/read_bytes.h"

namespace vpatch::introspect {
namespace {

constexpr std::size_t kMaxStrings = std::size_t{64} << 20U;

/// Names that mark what kind of bytes follow, as assemblers and compilers leave them.
bool is_mapping_symbol(std::string_view name) {
  if (name.starts_with(".L") || name.starts_with("L0")) {
    return true;
  }
  return name.size() >= 2 && name[0] == '$' &&
         std::string_view("adtx").find(name[1]) != std::string_view::npos &&
         (name.size() == 2 || name[2] == '.');
}

Result<std::vector<char>> read_types(const VirtualMemory& memory, const ModuleSymbolTable& table) {
  std::vector<char> types(table.count, '?');
  if (table.typetab == GuestVirtAddr(0)) {
    return types;
  }
  if (auto done = memory.read(table.typetab, std::as_writable_bytes(std::span(types))); !done) {
    return std::unexpected(std::move(done).error().in_context("read the types of symbols"));
  }
  for (char& type : types) {
    type = type >= ' ' && type <= '~' ? type : '?';
  }
  return types;
}

}  // namespace

Result<ModuleSymbols> ModuleSymbols::load(const VirtualMemory& memory,
                                          const ModuleSymbolTable& table) {
  if (table.count > kMaxModuleSymbols) {
    return fail(Errc::corrupt, fmt::format("a module would have {} symbols", table.count));
  }
  ModuleSymbols symbols;
  symbols.text_ = table.text;
  if (table.count == 0) {
    return symbols;
  }
  std::vector<Elf64_Sym> records(table.count);
  if (auto done = memory.read(table.symtab, std::as_writable_bytes(std::span(records))); !done) {
    return std::unexpected(std::move(done).error().in_context("read a module's symbol table"));
  }
  const auto types = read_types(memory, table);
  if (!types) {
    return std::unexpected(types.error());
  }
  symbols.entries_.reserve(records.size());
  std::size_t last_name = 0;
  for (std::size_t at = 0; at < records.size(); ++at) {
    const Elf64_Sym& record = records[at];
    const bool defined = record.st_shndx != SHN_UNDEF;
    symbols.entries_.push_back({record.st_value, record.st_name, defined, (*types)[at]});
    last_name = std::max<std::size_t>(last_name, defined ? record.st_name : 0);
  }
  if (last_name >= kMaxStrings) {
    return fail(Errc::corrupt, fmt::format("a module's names would take {} bytes", last_name));
  }
  auto strings = read_bytes(memory, table.strtab, last_name + 1, last_name + kMaxName);
  if (!strings) {
    return std::unexpected(
        std::move(strings).error().in_context("read the names of a module's symbols"));
  }
  symbols.strings_ = *std::move(strings);
  // The kernel's search takes entry 0, which is no symbol, for the best until it finds a higher
  // one.
  for (std::uint32_t at = 1; at < symbols.entries_.size(); ++at) {
    const Entry& entry = symbols.entries_[at];
    const auto text = symbols.name(entry);
    if (entry.defined && entry.value > symbols.entries_[0].value && !text.empty() &&
        !is_mapping_symbol(text)) {
      symbols.by_value_.push_back(at);
    }
  }
  std::ranges::sort(symbols.by_value_, {},
                    [&](std::uint32_t at) { return std::pair(symbols.entries_[at].value, at); });
  return symbols;
}

std::optional<Symbol> ModuleSymbols::at(GuestVirtAddr address) const {
  const auto end = end_of_text(address);
  const auto value = [this](std::uint32_t at) { return entries_[at].value; };
  const auto after = std::ranges::upper_bound(by_value_, address.value(), {}, value);
  if (!end || after == by_value_.begin()) {
    return std::nullopt;
  }
  const auto first = std::ranges::lower_bound(by_value_, value(*std::prev(after)), {}, value);
  return symbol(entries_[*first], end);
}

std::vector<Symbol> ModuleSymbols::named(std::string_view wanted, std::size_t max) const {
  return std::move(all_named(std::span(&wanted, 1), max).front());
}

std::vector<std::vector<Symbol>> ModuleSymbols::all_named(std::span<const std::string_view> names,
                                                          std::size_t max) const {
  std::unordered_map<std::string_view, std::vector<Symbol>> found;
  for (const std::string_view wanted : names) {
    found.try_emplace(wanted);
  }
  for (const Entry& entry : entries_) {
    const auto text = entry.defined ? name(entry) : std::string_view();
    const auto wanted = text.empty() ? found.end() : found.find(text);
    if (wanted != found.end() && wanted->second.size() < max) {
      wanted->second.push_back(symbol(entry, end_of_text(GuestVirtAddr(entry.value))));
    }
  }
  std::vector<std::vector<Symbol>> symbols;
  symbols.reserve(names.size());
  for (const std::string_view wanted : names) {
    symbols.push_back(found.find(wanted)->second);
  }
  return symbols;
}

std::vector<Symbol> ModuleSymbols::all() const {
  std::vector<Symbol> symbols;
  for (const Entry& entry : entries_) {
    if (entry.defined && !name(entry).empty()) {
      symbols.push_back(symbol(entry, end_of_text(GuestVirtAddr(entry.value))));
    }
  }
  return symbols;
}

std::string_view ModuleSymbols::name(const Entry& entry) const {
  if (entry.name >= strings_.size()) {
    return {};
  }
  const auto rest = std::span(strings_).subspan(entry.name);
  const auto* start = reinterpret_cast<const char*>(rest.data());
  return {start, ::strnlen(start, std::min(rest.size(), kMaxName))};
}

Symbol ModuleSymbols::symbol(const Entry& entry, std::optional<std::uint64_t> end) const {
  const auto value = [this](std::uint32_t at) { return entries_[at].value; };
  const auto next = std::ranges::upper_bound(by_value_, entry.value, {}, value);
  if (next != by_value_.end()) {
    end = end ? std::min(*end, value(*next)) : value(*next);
  }
  const auto text = name(entry);
  return {.name = printable_text(std::as_bytes(std::span(text))),
          .address = GuestVirtAddr(entry.value),
          .size = end.value_or(entry.value) - entry.value,
          .type = entry.type};
}

std::optional<std::uint64_t> ModuleSymbols::end_of_text(GuestVirtAddr address) const {
  const auto part =
      std::ranges::find_if(text_, [&](const VirtRange& range) { return range.holds(address, 1); });
  return part == text_.end() ? std::nullopt : std::optional(part->end().value());
}

}  // namespace vpatch::introspect

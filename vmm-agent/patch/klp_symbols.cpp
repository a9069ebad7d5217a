// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_symbols.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

/// SHN_LIVEPATCH of <uapi/linux/elf.h>.
constexpr std::uint16_t kSectionIndexLivepatch = 0xFF20;
constexpr std::string_view kPrefix = ".klp.sym.";
constexpr std::size_t kMaxName = 511;
constexpr std::size_t kMaxSymbols = 65536;

std::optional<NeededSymbol> parse(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  const auto dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto object = text.substr(0, dot);
  text.remove_prefix(dot + 1);
  const auto comma = text.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto name = text.substr(0, comma);
  text.remove_prefix(comma + 1);
  NeededSymbol symbol{.object = std::string(object), .name = std::string(name)};
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), symbol.position);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  const bool valid = is_module_name(object) && is_printable_ascii(name) && name.size() <= kMaxName;
  return whole && valid ? std::optional(std::move(symbol)) : std::nullopt;
}

}  // namespace

Result<std::vector<NeededSymbol>> read_needed_symbols(const ElfModule& module) {
  const auto symbols = module.symbols();
  std::vector<bool> used(symbols.size());
  for (std::uint32_t section = 1; section < module.section_count(); ++section) {
    for (const ElfRelocation& relocation : module.relocations(section)) {
      used[relocation.symbol] = true;
    }
  }
  std::vector<NeededSymbol> needed;
  for (std::size_t at = 0; at < symbols.size(); ++at) {
    if (!used[at] || symbols[at].section != kSectionIndexLivepatch) continue;
    if (needed.size() == kMaxSymbols) {
      return refuse_corrupt(fmt::format("more than {} livepatch symbols", kMaxSymbols));
    }
    const auto text = module.symbol_name(symbols[at]);
    auto symbol = parse(text);
    if (!symbol) {
      return refuse_corrupt(
          fmt::format("the livepatch symbol '{}' is not of the form "
                      ".klp.sym.OBJECT.NAME,POSITION",
                      displayable(text)));
    }
    needed.push_back(std::move(*symbol));
  }
  std::ranges::sort(needed);
  const auto repeated = std::ranges::unique(needed);
  needed.erase(repeated.begin(), repeated.end());
  return needed;
}

}  // namespace vpatch

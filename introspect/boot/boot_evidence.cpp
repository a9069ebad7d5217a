// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/boot_evidence.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "introspect/memory/page_scan.h"

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kLowMemory = std::uint64_t{1} << 20;
constexpr std::uint64_t kLastEntry = 511 * sizeof(std::uint64_t);
constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kAddressBits = 0x000f'ffff'ffff'f000;

// struct new_utsname: sysname, nodename, release, ... of 65 bytes each.
constexpr std::size_t kNameField = 65;
constexpr std::size_t kReleaseField = 2 * kNameField;

/// Flags such as "accessed" may differ between the table and its copy.
bool same_table(std::uint64_t a, std::uint64_t b) {
  return (a & b & kPresent) != 0 && (a & kAddressBits) == (b & kAddressBits);
}

bool holds_string(std::span<const std::byte> field, std::string_view expected) {
  return expected.size() < field.size() &&
         std::memcmp(field.data(), expected.data(), expected.size()) == 0 &&
         field[expected.size()] == std::byte{0};
}

/// Whether the kernel's own name is where the text says; nothing when the text does not say.
std::optional<bool> names_itself(const GuestMemory& memory, const VmcoreinfoText& text) {
  const auto uts = text.symbol("init_uts_ns");
  if (!uts || !text.uts_name_offset || !text.phys_base) {
    return std::nullopt;
  }
  const auto name = uts->plus(*text.uts_name_offset);
  const auto place = name ? text.kernel_phys(*name) : std::nullopt;
  std::array<std::byte, kReleaseField + kNameField> bytes{};
  if (!place || !memory.read(*place, bytes)) {
    return false;
  }
  const auto fields = std::span<const std::byte>(bytes);
  return holds_string(fields.first(kNameField), "Linux") &&
         holds_string(fields.subspan(kReleaseField), text.release);
}

/// Entry 511 of the kernel's own page table.
std::optional<std::uint64_t> top_entry(const GuestMemory& memory, const VmcoreinfoText& text) {
  auto table = text.symbol("init_top_pgt");
  if (!table) {
    table = text.symbol("swapper_pg_dir");  // the same table's name for all architectures
  }
  const auto place = table ? text.kernel_phys(*table) : std::nullopt;
  // No image lies in the first MiB: a text that points there would be compared with itself.
  if (!place || place->value() < kLowMemory) {
    return std::nullopt;
  }
  const auto last = place->plus(kLastEntry);
  std::array<std::byte, sizeof(std::uint64_t)> bytes{};
  if (!last || !memory.read(*last, bytes)) {
    return std::nullopt;
  }
  std::uint64_t entry = 0;
  std::memcpy(&entry, bytes.data(), bytes.size());
  return entry;
}

}  // namespace

std::string_view to_string(Evidence evidence) {
  switch (evidence) {
    case Evidence::contradicted:
      return "contradicted";
    case Evidence::unchecked:
      return "unchecked";
    case Evidence::image:
      return "image";
    case Evidence::booted:
      return "booted";
  }
  return "unknown";
}

Result<BootEvidence> BootEvidence::gather(const GuestMemory& memory) {
  BootEvidence evidence;
  const auto low = PhysRange::between(GuestPhysAddr(0), GuestPhysAddr(kLowMemory));
  constexpr PagePart kPart{kLastEntry, sizeof(std::uint64_t)};
  const auto scanned = scan_pages(memory, low, kPart, [&](GuestPhysAddr, auto bytes) {
    std::uint64_t entry = 0;
    std::memcpy(&entry, bytes.data(), sizeof(entry));
    if ((entry & kPresent) != 0) {
      evidence.entries_.push_back(entry);
    }
  });
  if (!scanned) {
    return std::unexpected(scanned.error());
  }
  return evidence;
}

Evidence BootEvidence::weigh(const GuestMemory& memory, const VmcoreinfoText& text) const {
  const auto named = names_itself(memory, text);
  if (!named) {
    return Evidence::unchecked;
  }
  if (!*named) {
    return Evidence::contradicted;
  }
  const auto entry = top_entry(memory, text);
  const bool led_to = entry && std::ranges::any_of(entries_, [&](std::uint64_t candidate) {
                        return same_table(candidate, *entry);
                      });
  return led_to ? Evidence::booted : Evidence::image;
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "introspect/stacks/orc.h"

namespace vpatch::introspect {
namespace {

/// Entries for each address of the index. Measured on a kernel with 424,307 of them and a first
/// look at 115 stacks: 700 us with 512, 350 us with 2048 and with 4096.
constexpr std::uint32_t kBlock = 2048;

/// How often a table that cannot be read, or is out of order, is tried again.
constexpr unsigned kMaxAttempts = 8;

constexpr unsigned kMemoBits = 12;
constexpr std::size_t kMemoSize = std::size_t{1} << kMemoBits;

using RawIp = std::int32_t;

struct Table {
  OrcTableLocation at;
  std::vector<std::uint64_t> index;  // the address of every kBlock-th entry, once it has been read
  unsigned failed = 0;               // attempts to read it

  /// The address that the entry `number` is for; `raw` is relative to where it lies itself.
  std::uint64_t address_of(std::uint32_t number, RawIp raw) const {
    return at.ips.value() + std::uint64_t{number} * sizeof(RawIp) +
           static_cast<std::uint64_t>(std::int64_t{raw});
  }

  std::uint32_t blocks() const { return (at.count + kBlock - 1) / kBlock; }
};

/// Where an address is kept. Which of two that share a slot stays does not matter.
struct Remembered {
  std::uint64_t ip = 0;
  bool used = false;
  OrcEntry entry;
};

std::size_t slot_of(std::uint64_t ip) {
  return (ip * 0x9e3779b97f4a7c15U) >> (64 - kMemoBits);
}

bool fits(const OrcTableLocation& table) {
  return VirtRange::make(table.ips, std::uint64_t{table.count} * sizeof(RawIp)) &&
         VirtRange::make(table.entries, std::uint64_t{table.count} * OrcFormat::kEntrySize);
}

/// Reads the index of a table. Nothing is kept of one that is not in rising order.
bool read_index(const VirtualMemory& memory, Table& table) {
  std::vector<RawIp> raw(table.blocks());
  std::vector<VirtRead> reads(raw.size());
  for (std::uint32_t block = 0; block < raw.size(); ++block) {
    const std::uint64_t offset = std::uint64_t{block} * kBlock * sizeof(RawIp);
    reads[block] = {GuestVirtAddr(table.at.ips.value() + offset),
                    std::as_writable_bytes(std::span(&raw[block], 1))};
  }
  memory.read_many(reads);
  if (!std::ranges::all_of(reads, &VirtRead::done)) {
    return false;
  }
  std::vector<std::uint64_t> index(raw.size());
  for (std::uint32_t block = 0; block < raw.size(); ++block) {
    index[block] = table.address_of(block * kBlock, raw[block]);
  }
  if (!std::ranges::is_sorted(index)) {
    return false;
  }
  table.index = std::move(index);
  return true;
}

/// The number of the last entry at or before `ip` in its block; nothing when the block cannot be
/// read, is not in order, or does not go with the index.
std::optional<std::uint32_t> entry_in_block(const VirtualMemory& memory, const Table& table,
                                            std::uint32_t block, std::uint64_t ip) {
  const std::uint32_t first = block * kBlock;
  std::array<RawIp, kBlock> raw;  // NOLINT: filled as far as it is used
  const auto ips = std::span(raw).first(std::min(kBlock, table.at.count - first));
  const GuestVirtAddr from(table.at.ips.value() + std::uint64_t{first} * sizeof(RawIp));
  if (!memory.read(from, std::as_writable_bytes(ips))) {
    return std::nullopt;
  }
  std::uint64_t before = table.index[block];
  std::uint32_t found = first;
  for (std::uint32_t at = 0; at < ips.size(); ++at) {
    const std::uint64_t address = table.address_of(first + at, ips[at]);
    if (address < before || (at == 0 && address != before)) {
      return std::nullopt;
    }
    found = address <= ip ? first + at : found;
    before = address;
  }
  if (block + 1 < table.index.size() && before > table.index[block + 1]) {
    return std::nullopt;
  }
  return found;
}

}  // namespace

struct OrcTables::Impl {
  const VirtualMemory& memory;
  OrcFormat format;
  std::vector<Table> tables{};  // by rising text, which does not overlap
  std::vector<Remembered> memo = std::vector<Remembered>(kMemoSize);

  /// `tables` without one that overlaps, in their order.
  void add(OrcTableLocation table, std::uint32_t& entries_left) {
    if (table.text.empty()) {
      return;
    }
    const auto after = std::ranges::upper_bound(
        tables, table.text.start(), {}, [](const Table& one) { return one.at.text.start(); });
    if ((after != tables.end() && after->at.text.overlaps(table.text)) ||
        (after != tables.begin() && std::prev(after)->at.text.overlaps(table.text))) {
      return;
    }
    if (!fits(table) || table.count > entries_left) {
      table.count = 0;
    }
    entries_left -= table.count;
    tables.insert(after, Table{table, {}, 0});
  }

  Table* table_of(GuestVirtAddr ip) {
    const auto after = std::ranges::upper_bound(
        tables, ip, {}, [](const Table& one) { return one.at.text.start(); });
    if (after == tables.begin() || !std::prev(after)->at.text.holds(ip, 1)) {
      return nullptr;
    }
    return &*std::prev(after);
  }

  std::optional<OrcEntry> look_up(GuestVirtAddr ip) {
    Table* table = table_of(ip);
    if (table == nullptr || table->at.count == 0) {
      return std::nullopt;
    }
    if (table->index.empty()) {
      if (table->failed >= kMaxAttempts) {
        return std::nullopt;
      }
      if (!read_index(memory, *table)) {
        ++table->failed;
        return std::nullopt;
      }
    }
    // Of several entries for one address the last counts: those before it end the piece of code
    // that lies in front, and only stand for it when nothing else does.
    const auto after = std::ranges::upper_bound(table->index, ip.value());
    if (after == table->index.begin()) {
      return std::nullopt;
    }
    const auto block = static_cast<std::uint32_t>(after - table->index.begin()) - 1;
    const auto number = entry_in_block(memory, *table, block, ip.value());
    if (!number) {
      return std::nullopt;
    }
    std::array<std::byte, OrcFormat::kEntrySize> bytes{};
    const GuestVirtAddr from(table->at.entries.value() + std::uint64_t{*number} * bytes.size());
    if (!memory.read(from, bytes)) {
      return std::nullopt;
    }
    return format.decode(bytes);
  }
};

OrcTables::OrcTables(const VirtualMemory& memory, OrcFormat format,
                     const std::vector<OrcTableLocation>& tables)
    : impl_(new Impl{memory, format}) {
  std::uint32_t entries_left = kMaxOrcEntries;
  for (const OrcTableLocation& table : tables) {
    impl_->add(table, entries_left);
  }
}

OrcTables::~OrcTables() = default;
OrcTables::OrcTables(OrcTables&&) noexcept = default;
OrcTables& OrcTables::operator=(OrcTables&&) noexcept = default;

std::optional<OrcEntry> OrcTables::find(GuestVirtAddr ip) const {
  Remembered& kept = impl_->memo[slot_of(ip.value())];
  if (kept.used && kept.ip == ip.value()) {
    return kept.entry;
  }
  const auto entry = impl_->look_up(ip);
  if (entry) {
    kept = {ip.value(), true, *entry};
  }
  return entry;
}

bool OrcTables::covers(GuestVirtAddr ip) const {
  return impl_->table_of(ip) != nullptr;
}

}  // namespace vpatch::introspect

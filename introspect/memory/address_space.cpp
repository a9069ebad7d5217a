// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/address_space.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

constexpr std::size_t kMaxTables = 4096;
constexpr std::size_t kMaxPrefetch = 1024;  // pages whose tables are read together

constexpr std::uint64_t kPresent = 1U << 0U;
constexpr std::uint64_t kWritable = 1U << 1U;
constexpr std::uint64_t kUser = 1U << 2U;
constexpr std::uint64_t kLarge = 1U << 7U;
constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63U;
constexpr std::uint64_t kAddressBits = 0x000f'ffff'ffff'f000;
constexpr std::uint64_t kLargePat = 1U << 12U;

constexpr std::uint64_t kRegionSize = std::uint64_t{2} << 20U;

// No table is at an address that is not page-aligned.
constexpr std::uint64_t kNoTable = 1;

/// How many bytes of virtual addresses one entry of this level maps; level 1 is that of 4 KiB
/// pages.
constexpr std::uint64_t span_of(int level) {
  return kPageSize << (9U * static_cast<unsigned>(level - 1));
}

constexpr std::size_t index_at(GuestVirtAddr address, int level) {
  return address.value() / span_of(level) % 512;
}

/// One entry as the CPU takes it.
struct Entry {
  bool leaf = false;
  std::uint64_t phys = 0;  ///< of the page, or of the next table
};

std::unexpected<Error> not_mapped(GuestVirtAddr address) {
  return fail(Errc::out_of_range, fmt::format("{:#x} is not mapped", address.value()));
}

Result<Entry> decode(std::uint64_t raw, int level, GuestVirtAddr address) {
  if ((raw & kPresent) == 0) {
    return not_mapped(address);
  }
  const std::uint64_t phys = raw & kAddressBits;
  if (level == 1) {
    return Entry{true, phys};
  }
  if ((raw & kLarge) == 0) {
    return Entry{false, phys};
  }
  const std::uint64_t page = phys & ~kLargePat;
  if (level > 3 || page % span_of(level) != 0) {
    return fail(Errc::corrupt, fmt::format("the level {} page table entry of {:#x} has reserved "
                                           "bits set",
                                           level, address.value()));
  }
  return Entry{true, page};
}

/// Bytes from `address` to the end of its 4 KiB page.
std::size_t left_in_page(GuestVirtAddr address) {
  return static_cast<std::size_t>(kPageSize - address.value() % kPageSize);
}

bool wraps(GuestVirtAddr address, std::size_t size) {
  return size != 0 && size - 1 > std::numeric_limits<std::uint64_t>::max() - address.value();
}

}  // namespace

AddressSpace::AddressSpace(const GuestMemory& memory, GuestPhysAddr root, Paging paging)
    : memory_(&memory), root_(root.value() & kAddressBits), paging_(paging) {}

bool AddressSpace::canonical(GuestVirtAddr address) const {
  const unsigned unused = paging_ == Paging::five_level ? 64 - 57 : 64 - 48;
  const auto extended = static_cast<std::int64_t>(address.value() << unused) >> unused;
  return static_cast<std::uint64_t>(extended) == address.value();
}

void AddressSpace::drop() const {
  tables_.clear();
  regions_.fill({});
}

void AddressSpace::forget() {
  drop();
}

const AddressSpace::Table* AddressSpace::keep(std::uint64_t phys,
                                              std::unique_ptr<const Table> table) const {
  if (tables_.size() >= kMaxTables) {
    drop();
  }
  return (tables_[phys] = std::move(table)).get();
}

Result<const AddressSpace::Table*> AddressSpace::table_at(std::uint64_t phys) const {
  if (const auto found = tables_.find(phys); found != tables_.end()) {
    return found->second.get();
  }
  auto table = std::make_unique<Table>();
  const auto bytes = std::as_writable_bytes(std::span(*table));
  if (auto done = memory_->read(GuestPhysAddr(phys), bytes); !done) {
    return std::unexpected(std::move(done).error().in_context("read a page table"));
  }
  return keep(phys, std::move(table));
}

Result<AddressSpace::Region> AddressSpace::walk(GuestVirtAddr address) const {
  Region region;
  region.key = address.value() / kRegionSize;
  std::uint64_t phys = root_;
  for (int level = levels(); level > 1; --level) {
    const auto table = table_at(phys);
    if (!table) {
      return std::unexpected(table.error());
    }
    const std::uint64_t raw = (**table)[index_at(address, level)];
    const auto entry = decode(raw, level, address);
    if (!entry) {
      return std::unexpected(entry.error());
    }
    region.rights.writable &= (raw & kWritable) != 0;
    region.rights.user &= (raw & kUser) != 0;
    region.rights.executable &= (raw & kNoExecute) == 0;
    phys = entry->phys;
    if (entry->leaf) {
      region.page_size = span_of(level);
      region.phys = phys + address.value() % region.page_size / kRegionSize * kRegionSize;
      return region;
    }
  }
  const auto table = table_at(phys);
  if (!table) {
    return std::unexpected(table.error());
  }
  region.table = *table;
  region.page_size = kPageSize;
  return region;
}

Result<Translation> AddressSpace::translate(GuestVirtAddr address) const {
  if (!canonical(address)) {
    return fail(Errc::out_of_range, fmt::format("{:#x} is not canonical", address.value()));
  }
  const std::uint64_t key = address.value() / kRegionSize;
  Region& region = regions_[key % regions_.size()];
  if (region.key != key) {
    auto walked = walk(address);
    if (!walked) {
      return std::unexpected(std::move(walked).error());
    }
    region = *walked;
  }
  const Rights& rights = region.rights;
  if (region.table == nullptr) {
    return Translation{GuestPhysAddr(region.phys + address.value() % kRegionSize), region.page_size,
                       rights.writable, rights.user, rights.executable};
  }
  const std::uint64_t raw = (*region.table)[index_at(address, 1)];
  if ((raw & kPresent) == 0) {
    return not_mapped(address);
  }
  return Translation{GuestPhysAddr((raw & kAddressBits) + address.value() % kPageSize), kPageSize,
                     rights.writable && (raw & kWritable) != 0, rights.user && (raw & kUser) != 0,
                     rights.executable && (raw & kNoExecute) == 0};
}

Result<void> AddressSpace::read(GuestVirtAddr address, std::span<std::byte> into) const {
  if (into.size() > left_in_page(address)) {
    VirtRead one{address, into};
    read_many(std::span(&one, 1));
    if (one.done) {
      return {};
    }
    // Once more, for the error.
  }
  if (wraps(address, into.size())) {
    return fail(Errc::out_of_range,
                fmt::format("{} bytes at {:#x} run past 64 bits", into.size(), address.value()));
  }
  while (!into.empty()) {
    const auto found = translate(address);
    if (!found) {
      return std::unexpected(found.error());
    }
    const auto piece = into.first(std::min(into.size(), left_in_page(address)));
    if (auto done = memory_->read(found->phys, piece); !done) {
      return std::unexpected(
          std::move(done).error().in_context(fmt::format("read {:#x}", address.value())));
    }
    into = into.subspan(piece.size());
    address = GuestVirtAddr(address.value() + piece.size());  // may wrap only when nothing is left
  }
  return {};
}

/// Where the walk for `address` stops for want of a table; kNoTable when it does not.
std::uint64_t AddressSpace::missing_table(GuestVirtAddr address) const {
  const std::uint64_t key = address.value() / kRegionSize;
  if (regions_[key % regions_.size()].key == key || !canonical(address)) {
    return kNoTable;
  }
  std::uint64_t phys = root_;
  for (int level = levels();; --level) {
    const auto found = tables_.find(phys);
    if (found == tables_.end()) {
      return phys;
    }
    if (level == 1) {
      return kNoTable;
    }
    const auto entry = decode((*found->second)[index_at(address, level)], level, address);
    if (!entry || entry->leaf) {
      return kNoTable;
    }
    phys = entry->phys;
  }
}

/// Reads what tables the pieces need, as far as they can be read; only saves translate() the work.
void AddressSpace::prefetch(std::span<const Piece> pieces) const {
  std::vector<std::uint64_t> wanted;
  for (int round = 0; round < levels(); ++round) {
    wanted.clear();
    for (const Piece& piece : pieces) {
      if (const auto phys = missing_table(piece.address); phys != kNoTable) {
        wanted.push_back(phys);
      }
    }
    std::ranges::sort(wanted);
    wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
    if (wanted.empty()) {
      return;
    }
    std::vector<std::unique_ptr<Table>> tables;
    std::vector<PhysRead> reads;
    for (const std::uint64_t phys : wanted) {
      tables.push_back(std::make_unique<Table>());
      reads.push_back({GuestPhysAddr(phys), std::as_writable_bytes(std::span(*tables.back()))});
    }
    memory_->read_many(reads);
    bool any = false;
    for (std::size_t index = 0; index < reads.size(); ++index) {
      if (reads[index].done) {
        keep(wanted[index], std::move(tables[index]));
        any = true;
      }
    }
    if (!any) {
      return;
    }
  }
}

/// The reads in guest-physical memory for `pieces`, with the index of each one's owner. Pieces that
/// are not mapped mark their owner as failed.
std::vector<PhysRead> AddressSpace::resolve(std::span<const Piece> pieces,
                                            std::span<VirtRead> reads,
                                            std::vector<std::size_t>& owners) const {
  std::vector<PhysRead> physical;
  physical.reserve(pieces.size());
  for (std::size_t at = 0; at < pieces.size(); ++at) {
    if (at % kMaxPrefetch == 0) {
      prefetch(pieces.subspan(at, std::min(kMaxPrefetch, pieces.size() - at)));
    }
    const Piece& piece = pieces[at];
    if (!reads[piece.read].done) {
      continue;
    }
    const auto found = translate(piece.address);
    if (!found) {
      reads[piece.read].done = false;
      continue;
    }
    if (!physical.empty() && owners.back() == piece.read &&
        physical.back().address.plus(physical.back().into.size()) == found->phys) {
      auto& into = physical.back().into;  // the pieces of one read adjoin in its buffer
      into = std::span(into.data(), into.size() + piece.into.size());
      continue;
    }
    physical.push_back({found->phys, piece.into});
    owners.push_back(piece.read);
  }
  return physical;
}

void AddressSpace::read_many(std::span<VirtRead> reads) const {
  std::vector<Piece> pieces;
  pieces.reserve(reads.size());
  for (std::size_t index = 0; index < reads.size(); ++index) {
    VirtRead& one = reads[index];
    one.done = !wraps(one.address, one.into.size());
    auto left = one.done ? one.into : std::span<std::byte>();
    GuestVirtAddr address = one.address;
    while (!left.empty()) {
      const auto piece = left.first(std::min(left.size(), left_in_page(address)));
      pieces.push_back({index, address, piece});
      left = left.subspan(piece.size());
      address = GuestVirtAddr(address.value() + piece.size());
    }
  }
  std::vector<std::size_t> owners;
  owners.reserve(pieces.size());
  auto physical = resolve(pieces, reads, owners);
  memory_->read_many(physical);
  for (std::size_t index = 0; index < physical.size(); ++index) {
    if (!physical[index].done) {
      reads[owners[index]].done = false;
    }
  }
}

Result<void> write_mapped(GuestMemory& memory, const AddressSpace& space, GuestVirtAddr address,
                          std::span<const std::byte> bytes) {
  if (bytes.size() > left_in_page(address)) {
    return fail(Errc::out_of_range, fmt::format("write {:#x}: {} bytes run across a page's end",
                                                address.value(), bytes.size()));
  }
  const auto place = space.translate(address);
  if (!place) {
    return std::unexpected(
        Error(place.error()).in_context(fmt::format("write {:#x}", address.value())));
  }
  if (!place->writable) {
    return fail(Errc::out_of_range,
                fmt::format("write {:#x}: the guest's kernel maps it read-only", address.value()));
  }
  if (auto done = memory.write(place->phys, bytes); !done) {
    return std::unexpected(
        std::move(done).error().in_context(fmt::format("write {:#x}", address.value())));
  }
  return {};
}

}  // namespace vpatch::introspect

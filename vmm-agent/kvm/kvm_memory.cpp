// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/kvm/kvm_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "introspect/memory/file_memory.h"
#include "introspect/memory/host_error.h"
#include "introspect/memory/mapped_memory.h"
#include "introspect/memory/pagemap.h"
#include "introspect/memory/region_map.h"
#include "introspect/memory/store_bytes.h"

namespace vpatch::kvm {
namespace {

using introspect::FileMemory;
using introspect::FileRegion;
using introspect::GuestMemory;
using introspect::HostAddr;
using introspect::HostRange;
using introspect::kPageSize;
using introspect::MappedMemory;
using introspect::Pagemap;
using introspect::Result;
using introspect::UniqueFd;

/// One slot of private memory of this process.
class PrivateSlot final : public GuestMemory {
 public:
  PrivateSlot(PhysRange guest, std::byte* bytes, Pagemap pagemap)
      : guest_{guest}, bytes_(bytes), pagemap_(std::move(pagemap)) {}

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override {
    if (into.empty()) {
      return {};
    }
    if (!range().holds(address, into.size())) {
      return introspect::no_ram_at(address);
    }
    // The guest may write these bytes meanwhile: the copy may be torn, as the contract says. A page
    // that was never touched reads as the host's one page of zeros.
    std::memcpy(into.data(), bytes_ + (address.value() - range().start().value()), into.size());
    return {};
  }

  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override {
    if (bytes.empty()) {
      return {};
    }
    if (!range().holds(address, bytes.size())) {
      return introspect::no_ram_at(address);
    }
    std::byte* const to = bytes_ + (address.value() - range().start().value());
    const auto first = reinterpret_cast<std::uintptr_t>(to);
    const auto there = pagemap_.all_exist(HostRange::between(
        HostAddr(first / kPageSize * kPageSize),
        HostAddr((first + bytes.size() + kPageSize - 1) / kPageSize * kPageSize)));
    if (!there) {
      return std::unexpected(there.error());
    }
    if (!*there) {
      return introspect::never_touched(address);
    }
    introspect::store_bytes(to, bytes);
    return {};
  }

  std::span<const PhysRange> regions() const override { return guest_; }

  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override {
    const auto base = reinterpret_cast<std::uintptr_t>(bytes_);
    const GuestPhysAddr page(from.value() / kPageSize * kPageSize);
    const std::uint64_t offset = page.offset_from(range().start()).value_or(0);
    if (offset >= range().size()) {
      return std::nullopt;
    }
    const auto run = pagemap_.next_run(HostAddr(base + offset), HostAddr(base + range().size()));
    if (!run) {
      return std::unexpected(run.error());
    }
    const auto& found = *run;
    if (!found) {
      return std::nullopt;
    }
    const GuestPhysAddr start(range().start().value() + (found->start().value() - base));
    return PhysRange::make(start, found->size());
  }

 private:
  const PhysRange& range() const { return guest_[0]; }

  std::array<PhysRange, 1> guest_;
  std::byte* bytes_;
  Pagemap pagemap_;
};

template <class Memory>
Result<std::unique_ptr<GuestMemory>> boxed(Result<Memory> memory) {
  if (!memory) {
    return std::unexpected(std::move(memory).error());
  }
  return std::make_unique<Memory>(*std::move(memory));
}

Result<std::unique_ptr<GuestMemory>> memory_of(const Slot& slot) {
  if (!slot.file) {
    auto pagemap = Pagemap::open(::getpid());
    if (!pagemap) {
      return std::unexpected(std::move(pagemap).error());
    }
    return std::make_unique<PrivateSlot>(slot.guest, slot.bytes.start(), *std::move(pagemap));
  }
  UniqueFd fd(
      ::open(fmt::format("/proc/self/fd/{}", slot.file.get()).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return introspect::fail_errno("open the file of guest RAM", errno);
  }
  const std::vector<FileRegion> region{{slot.guest.start(), slot.guest.size(), slot.file_offset}};
  if (MappedMemory::mappable(fd.get())) {
    return boxed(MappedMemory::create(std::move(fd), region));
  }
  return boxed(FileMemory::create(std::move(fd), region));
}

}  // namespace

Result<KvmMemory> KvmMemory::create(const Machine& machine) {
  std::vector<std::unique_ptr<GuestMemory>> parts;
  for (const Slot& slot : machine.slots()) {
    auto part = memory_of(slot);
    if (!part) {
      return std::unexpected(std::move(part).error());
    }
    parts.push_back(*std::move(part));
  }
  auto all = introspect::CompositeMemory::create(std::move(parts));
  if (!all) {
    return std::unexpected(std::move(all).error());
  }
  return KvmMemory(*std::move(all));
}

}  // namespace vpatch::kvm

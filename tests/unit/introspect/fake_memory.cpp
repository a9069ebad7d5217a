// SPDX-License-Identifier: Apache-2.0
#include "fake_memory.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

std::uint64_t page_of(std::uint64_t address) {
  return address / kPageSize * kPageSize;
}

}  // namespace

FakeMemory::FakeMemory(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& regions) {
  for (const auto& [start, size] : regions) {
    regions_.push_back(PhysRange::between(GuestPhysAddr(start), GuestPhysAddr(start + size)));
  }
}

const PhysRange* FakeMemory::region_of(std::uint64_t address) const {
  const auto found = std::ranges::find_if(
      regions_, [&](const PhysRange& range) { return range.holds(GuestPhysAddr(address), 1); });
  return found == regions_.end() ? nullptr : &*found;
}

void FakeMemory::write(std::uint64_t address, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    const std::uint64_t page = page_of(address);
    pages_[page].at(address - page) = byte;
    ++address;
  }
}

void FakeMemory::write(std::uint64_t address, std::string_view bytes) {
  write(address, std::as_bytes(std::span(bytes)));
}

void FakeMemory::write_word(std::uint64_t address, std::uint64_t value) {
  write(address, std::as_bytes(std::span(&value, 1)));
}

void FakeMemory::fault(std::uint64_t address, Errc code) {
  faults_[page_of(address)] = code;
}

Result<void> FakeMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  if (hook_) {
    hook_(address);
  }
  for (std::size_t done = 0; done < into.size();) {
    const auto at = address.plus(done);
    if (!at || region_of(at->value()) == nullptr) {
      return fail(Errc::out_of_range, fmt::format("no RAM behind {:#x}", address.value()));
    }
    const std::uint64_t page = page_of(at->value());
    if (const auto fault = faults_.find(page); fault != faults_.end()) {
      return fail(fault->second, fmt::format("fault at {:#x}", page), 5);
    }
    ++touched_[page];
    const std::uint64_t offset = at->value() - page;
    const auto part = into.subspan(done, std::min(into.size() - done, kPageSize - offset));
    if (const auto found = pages_.find(page); found != pages_.end()) {
      std::memcpy(part.data(), found->second.data() + offset, part.size());
    } else {
      std::ranges::fill(part, std::byte{0});
    }
    done += part.size();
  }
  return {};
}

Result<void> FakeMemory::write(GuestPhysAddr address, std::span<const std::byte> bytes) {
  for (std::uint64_t at = address.value(); at < address.value() + bytes.size(); ++at) {
    if (region_of(at) == nullptr || !pages_.contains(page_of(at))) {
      return fail(Errc::out_of_range, fmt::format("no page behind {:#x}", at));
    }
  }
  write(address.value(), bytes);
  return {};
}

Result<std::optional<PhysRange>> FakeMemory::next_populated(GuestPhysAddr from) const {
  if (walk_fault_) {
    return fail(*walk_fault_, "the walk failed");
  }
  const auto first = pages_.lower_bound(page_of(from.value()));
  if (first == pages_.end()) {
    return std::nullopt;
  }
  const PhysRange* const region = region_of(first->first);
  std::uint64_t end = first->first + kPageSize;
  while (pages_.contains(end) && region_of(end) == region) {
    end += kPageSize;
  }
  return PhysRange::between(GuestPhysAddr(first->first), GuestPhysAddr(end));
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "introspect/page_scan.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace vpatch::introspect {
namespace {

// Large enough to make the system call cheap, small enough to stay in a second-level cache.
constexpr std::uint64_t kChunk = std::uint64_t{256} * 1024;

void visit_pages(GuestPhysAddr start, std::span<const std::byte> bytes, const PageVisitor& visit) {
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += kPageSize) {
    visit(GuestPhysAddr(start.value() + offset), bytes.subspan(offset).first<kPageSize>());
  }
}

/// Reads `into` at once, or page by page where that fails.
Result<void> visit_chunk(const GuestMemory& memory, GuestPhysAddr start, std::span<std::byte> into,
                         const PageVisitor& visit, ScanGaps& gaps) {
  if (memory.read(start, into)) {
    visit_pages(start, into, visit);
    return {};
  }
  for (std::uint64_t offset = 0; offset < into.size(); offset += kPageSize) {
    const GuestPhysAddr address(start.value() + offset);
    const auto page = into.subspan(offset).first<kPageSize>();
    if (auto done = memory.read(address, page); done) {
      visit(address, page);
    } else if (done.error().code == Errc::permission) {
      return done;
    } else {
      ++gaps.unreadable_pages;
      if (!gaps.first_error) {
        gaps.first_error = std::move(done).error();
      }
    }
  }
  return {};
}

}  // namespace

Result<ScanGaps> scan_pages(const GuestMemory& memory, PhysRange within, const PageVisitor& visit) {
  std::vector<std::byte> buffer(kChunk);
  ScanGaps gaps;
  GuestPhysAddr from = within.start();
  while (from < within.end()) {
    const auto found = memory.next_populated(from);
    if (!found) {
      return std::unexpected(found.error());
    }
    const std::optional<PhysRange> data = *found;
    if (!data) {
      break;
    }
    const GuestPhysAddr end = std::min(data->end(), within.end());
    for (GuestPhysAddr chunk = data->start(); chunk < end;) {
      const std::uint64_t left = PhysRange::between(chunk, end).size();
      const auto bytes = std::span(buffer).first(std::min(left, kChunk));
      if (auto done = visit_chunk(memory, chunk, bytes, visit, gaps); !done) {
        return std::unexpected(std::move(done).error());
      }
      chunk = GuestPhysAddr(chunk.value() + bytes.size());
    }
    from = data->end();
  }
  return gaps;
}

}  // namespace vpatch::introspect

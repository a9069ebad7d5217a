// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/page_scan.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace vpatch::introspect {
namespace {

// Enough reads to make a system call cheap, and few enough bytes to stay in a second-level cache.
constexpr std::size_t kMostReads = 1024;
constexpr std::size_t kMostBytes = std::size_t{256} * 1024;

/// Collects pages and reads them together.
class Scan {
 public:
  Scan(const GuestMemory& memory, PagePart part, const PageVisitor& visit)
      : memory_(memory),
        part_(part),
        visit_(visit),
        capacity_(std::clamp<std::size_t>(kMostBytes / part.size, 1, kMostReads)),
        buffer_(capacity_ * part.size) {}

  Result<void> take(GuestPhysAddr page) {
    const auto into = std::span(buffer_).subspan(reads_.size() * part_.size, part_.size);
    reads_.push_back({GuestPhysAddr(page.value() + part_.offset), into});
    return reads_.size() < capacity_ ? Result<void>{} : flush();
  }

  Result<void> flush() {
    memory_.read_many(reads_);
    for (const PhysRead& one : reads_) {
      // Once more where it failed, for the error; it may also have come back.
      auto done = one.done ? Result<void>{} : memory_.read(one.address, one.into);
      if (done) {
        visit_(GuestPhysAddr(one.address.value() - part_.offset), one.into);
      } else if (done.error().code == Errc::permission) {
        return done;
      } else {
        ++gaps_.unreadable_pages;
        if (!gaps_.first_error) {
          gaps_.first_error = std::move(done).error();
        }
      }
    }
    reads_.clear();
    return {};
  }

  ScanGaps finish() && { return std::move(gaps_); }

 private:
  const GuestMemory& memory_;
  PagePart part_;
  const PageVisitor& visit_;
  std::size_t capacity_;
  std::vector<std::byte> buffer_;
  std::vector<PhysRead> reads_;
  ScanGaps gaps_;
};

}  // namespace

Result<ScanGaps> scan_pages(const GuestMemory& memory, PhysRange within, PagePart part,
                            const PageVisitor& visit) {
  Scan scan(memory, part, visit);
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
    for (GuestPhysAddr page = data->start(); page < end;
         page = GuestPhysAddr(page.value() + kPageSize)) {
      if (auto done = scan.take(page); !done) {
        return std::unexpected(std::move(done).error());
      }
    }
    from = data->end();
  }
  if (auto done = scan.flush(); !done) {
    return std::unexpected(std::move(done).error());
  }
  return std::move(scan).finish();
}

}  // namespace vpatch::introspect

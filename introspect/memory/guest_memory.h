// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "introspect/error.h"
#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// One of many reads that are made together.
struct PhysRead {
  GuestPhysAddr address;
  std::span<std::byte> into;
  bool done = false;  ///< set by read_many(); when false the bytes of `into` mean nothing
};

/// A guest's RAM, seen from the host, wherever it comes from. Looking must not change the guest and
/// must not cost the host memory: no call makes a page exist that did not exist before (the host's
/// one page of zeros does not count). Only write() changes it, and until its first call nothing is
/// held through which the guest could be changed.
///
/// Threads: one at a time, unless an implementation says more; several objects over one guest may
/// be used by several threads. The guest is not held still: while it runs, a read may see part of
/// an update (torn), and what was populated may be given back. Callers copy once and check the
/// copy.
class GuestMemory {
 public:
  GuestMemory() = default;
  virtual ~GuestMemory() = default;

  /// Fills `into` from `address` on, wholly or not at all as far as the result tells: after an
  /// error the bytes of `into` mean nothing. May run across adjoining regions. A hole reads as
  /// zeros. Reading nothing succeeds anywhere.
  ///
  /// Errc::out_of_range when any byte lies outside the regions, Errc::permission and Errc::io from
  /// the host.
  virtual Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const = 0;

  /// Makes all of `reads`, each by the rules of read(), in as few system calls as the backend can.
  /// A read that fails does not keep the others from being made.
  virtual void read_many(std::span<PhysRead> reads) const;

  /// Writes `bytes` from `address` on, wholly or not at all as far as the result tells: an error
  /// met past the first page may leave the pages before it written. May run across adjoining
  /// regions. Writing nothing succeeds anywhere.
  ///
  /// Errc::out_of_range when any byte lies outside the regions or in a page that the guest has
  /// never touched, Errc::permission for memory that can only be read, Errc::permission and
  /// Errc::io from the host.
  ///
  /// Where the backend has the guest's memory mapped, an aligned write of 4 or 8 bytes is one store
  /// with release order. The guest sees several writes in the order they were made in.
  virtual Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes);

  /// Where the guest has RAM: not empty, page-aligned, in rising order, never overlapping. Valid as
  /// long as this object.
  virtual std::span<const PhysRange> regions() const = 0;

  /// The next RAM at or after `from` (rounded down to its page) that holds data; nothing when only
  /// holes are left. The range lies in one region, is not empty, page-aligned, and starts nowhere
  /// before the rounded `from`. What lies between two answers reads as zeros. To walk all data, go
  /// on from the end of the last answer: each call moves forward, so the walk ends.
  ///
  /// A backend that cannot tell data from holes answers with whole regions.
  virtual Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const = 0;

  /// Drops what is remembered of which pages exist. To be called before a running guest is looked
  /// at anew; not calling it never gives wrong bytes.
  virtual void forget() {}

 protected:
  GuestMemory(const GuestMemory&) = default;
  GuestMemory& operator=(const GuestMemory&) = default;
  GuestMemory(GuestMemory&&) = default;
  GuestMemory& operator=(GuestMemory&&) = default;
};

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "introspect/kernel/struct_copy.h"
#include "introspect/kernel/tasks.h"

namespace vpatch::introspect {

/// PID_MAX_LIMIT on 64-bit.
inline constexpr std::uint32_t kMaxPid = 4U << 20U;

/// Which bytes of a task_struct are copied: the two spans around the widest gap between the
/// members of a TaskLayout, since a task_struct is large and what matters lies at two places.
class TaskSpans {
 public:
  struct Span {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  /// Errc::corrupt when the spans are larger than any task_struct.
  static Result<TaskSpans> of(const TaskLayout& layout);

  const Span& near() const { return spans_[0]; }
  const Span& far() const { return spans_[1]; }
  std::size_t bytes() const { return spans_[0].size + spans_[1].size; }
  /// How many reads one task_struct takes.
  std::size_t reads() const { return far().size == 0 ? 1 : 2; }

 private:
  std::array<Span, 2> spans_{};
};

/// The bytes of one task_struct that TaskSpans names.
class TaskRecord {
 public:
  /// `bytes` has TaskSpans::bytes() bytes, the near span's first.
  TaskRecord(const TaskSpans& spans, std::span<const std::byte> bytes)
      : near_(bytes.first(spans.near().size), spans.near().offset),
        far_(bytes.subspan(spans.near().size), spans.far().offset) {}

  template <class T>
  T get(std::uint64_t offset) const {
    return near_.has(offset, sizeof(T)) ? near_.get<T>(offset) : far_.get<T>(offset);
  }
  GuestVirtAddr pointer(std::uint64_t offset) const {
    return GuestVirtAddr(get<std::uint64_t>(offset));
  }

  Task decode(GuestVirtAddr address, const TaskLayout& layout) const;

 private:
  FieldView near_;
  FieldView far_;
};

/// Puts the TaskSpans::reads() reads of one task_struct behind `reads`; `bytes` has
/// TaskSpans::bytes() bytes.
void add_task_reads(std::vector<VirtRead>& reads, const TaskSpans& spans, GuestVirtAddr address,
                    std::span<std::byte> bytes);

}  // namespace vpatch::introspect

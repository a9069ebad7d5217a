// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/task_record.h"

#include <algorithm>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"

namespace vpatch::introspect {
namespace {

/// Below this a single read of all is cheaper than two.
constexpr std::uint64_t kSmallStruct = 4096;

std::vector<TaskSpans::Span> members_of(const TaskLayout& layout) {
  std::vector<TaskSpans::Span> members = {
      {layout.tasks, 16},       {layout.thread_node, 16}, {layout.signal, 8},
      {layout.pid, 4},          {layout.tgid, 4},         {layout.comm, layout.comm_size},
      {layout.state, 4},        {layout.exit_state, 4},   {layout.flags, 4},
      {layout.thread_flags, 8}, {layout.on_cpu, 4},       {layout.cpu, 4},
      {layout.stack, 8},        {layout.saved_sp, 8},     {layout.nvcsw, 8},
      {layout.nivcsw, 8},       {layout.start_time, 8}};
  if (layout.patch_state) {
    members.push_back({*layout.patch_state, 4});
  }
  std::ranges::sort(members, {}, &TaskSpans::Span::offset);
  return members;
}

}  // namespace

Result<TaskSpans> TaskSpans::of(const TaskLayout& layout) {
  const auto members = members_of(layout);
  for (const Span& member : members) {
    if (member.offset > kMaxStructSize || member.size > kMaxStructSize) {
      return fail(Errc::corrupt,
                  fmt::format("a member of task_struct would lie {} bytes inside", member.offset));
    }
  }
  std::uint64_t end = 0;
  std::uint64_t widest = 0;
  std::uint64_t gap_start = 0;
  std::uint64_t gap_end = 0;
  for (const Span& member : members) {
    if (end != 0 && member.offset > end && member.offset - end > widest) {
      widest = member.offset - end;
      gap_start = end;
      gap_end = member.offset;
    }
    end = std::max(end, member.offset + member.size);
  }
  const std::uint64_t start = members.front().offset;
  TaskSpans spans;
  if (widest == 0 || end - start <= kSmallStruct) {
    spans.spans_ = {Span{start, end - start}, Span{end, 0}};
  } else {
    spans.spans_ = {Span{start, gap_start - start}, Span{gap_end, end - gap_end}};
  }
  return spans;
}

Task TaskRecord::decode(GuestVirtAddr address, const TaskLayout& layout) const {
  Task task;
  task.address = address;
  task.tid = get<std::uint32_t>(layout.pid);
  task.pid = get<std::uint32_t>(layout.tgid);
  task.name = near_.has(layout.comm, layout.comm_size) ? near_.text(layout.comm, layout.comm_size)
                                                       : far_.text(layout.comm, layout.comm_size);
  task.name.resize(std::min<std::size_t>(task.name.size(), 15));
  task.state = get<std::uint32_t>(layout.state);
  task.exit_state = get<std::uint32_t>(layout.exit_state);
  task.flags = get<std::uint32_t>(layout.flags);
  task.thread_flags = get<std::uint64_t>(layout.thread_flags);
  task.on_cpu = get<std::uint32_t>(layout.on_cpu) != 0;
  task.cpu = get<std::uint32_t>(layout.cpu);
  task.stack = pointer(layout.stack);
  task.saved_sp = pointer(layout.saved_sp);
  task.switches = get<std::uint64_t>(layout.nvcsw) + get<std::uint64_t>(layout.nivcsw);
  task.start_ns = get<std::uint64_t>(layout.start_time);
  if (layout.patch_state) {
    task.patch_state = get<std::int32_t>(*layout.patch_state);
  }
  task.patch_pending =
      layout.patch_pending_bit < 64 && ((task.thread_flags >> layout.patch_pending_bit) & 1U) != 0;
  return task;
}

void add_task_reads(std::vector<VirtRead>& reads, const TaskSpans& spans, GuestVirtAddr address,
                    std::span<std::byte> bytes) {
  reads.push_back({member_at(address, spans.near().offset), bytes.first(spans.near().size)});
  if (spans.far().size != 0) {
    reads.push_back({member_at(address, spans.far().offset), bytes.subspan(spans.near().size)});
  }
}

}  // namespace vpatch::introspect

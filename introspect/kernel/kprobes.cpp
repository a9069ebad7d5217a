// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/kprobes.h"

#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/list_walk.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch::introspect {
namespace {

/// KPROBE_TABLE_SIZE.
constexpr std::size_t kBuckets = 64;
constexpr std::uint32_t kFlagGone = 1, kFlagDisabled = 2, kFlagFtrace = 8;
/// Of the link back in struct hlist_node.
constexpr std::uint64_t kPprev = 8;

/// Adds the probes of the chain that the pointer at `head` starts. `visited` counts those that are
/// gone too, of all chains.
Result<void> read_chain(const VirtualMemory& memory, const KprobeLayout& layout, GuestVirtAddr head,
                        GuestVirtAddr first, std::size_t& visited, std::vector<Kprobe>& probes) {
  GuestVirtAddr before = head;
  for (GuestVirtAddr node = first; node != GuestVirtAddr();) {
    if (++visited > kMaxKprobes) {
      return fail(Errc::corrupt, fmt::format("more than {} kprobes", kMaxKprobes));
    }
    const auto probe = StructCopy::read(memory, struct_of(node, layout.hlist), layout.size);
    if (!probe) {
      return fail(Errc::torn, "a kprobe cannot be read: " + probe.error().what,
                  probe.error().sys_errno);
    }
    const FieldView fields = probe->fields();
    if (fields.pointer(layout.hlist + kPprev) != before) {
      return fail(Errc::torn, fmt::format("the kprobe at {:#x} does not point back", node.value()));
    }
    const auto flags = fields.get<std::uint32_t>(layout.flags);
    if ((flags & kFlagGone) == 0) {
      probes.push_back({.address = fields.pointer(layout.address),
                        .post_handler = fields.pointer(layout.post_handler) != GuestVirtAddr(),
                        .by_ftrace = (flags & kFlagFtrace) != 0,
                        .disabled = (flags & kFlagDisabled) != 0});
    }
    before = node;
    node = fields.pointer(layout.hlist);
  }
  return {};
}

}  // namespace

Result<KprobeLayout> KprobeLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  KprobeLayout layout;
  layout.table = probe.symbol("kprobe_table");
  layout.hlist = probe.offset("kprobe", "hlist");
  layout.address = probe.offset("kprobe", "addr");
  layout.post_handler = probe.offset("kprobe", "post_handler");
  layout.flags = probe.offset("kprobe", "flags");
  layout.size = probe.size_of("kprobe");
  return std::move(probe).finish(layout);
}

Result<std::vector<Kprobe>> read_kprobes(const VirtualMemory& memory, const KprobeLayout& layout) {
  return retry_torn([&]() -> Result<std::vector<Kprobe>> {
    std::array<std::uint64_t, kBuckets> heads{};
    if (auto done = memory.read(layout.table, std::as_writable_bytes(std::span(heads))); !done) {
      return std::unexpected(std::move(done).error().in_context("read the table of kprobes"));
    }
    std::vector<Kprobe> probes;
    std::size_t visited = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      if (auto done = read_chain(memory, layout, member_at(layout.table, bucket * 8),
                                 GuestVirtAddr(heads.at(bucket)), visited, probes);
          !done) {
        return std::unexpected(std::move(done).error());
      }
    }
    return probes;
  });
}

}  // namespace vpatch::introspect

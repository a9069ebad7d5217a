// SPDX-License-Identifier: Apache-2.0
// The kernel's log ring.
#include "introspect/kernel/kernel_log.h"
#include "introspect/kernel/trouble.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/fakes/sparse_virtual_memory.h"
#include "vmm-agent/operation/kernel_log.h"

namespace vpatch::fuzz {
namespace {

constexpr std::uint64_t kRing = 0xffff'ffff'8200'0000;
// The ring and the pointer to it; descriptors; what they tell; text.
constexpr std::array<Window, 4> kWindows = {
    {{kRing, 128}, {kRing + 0x10000, 8192}, {kRing + 0x20000, 8192}, {kRing + 0x30000, 16384}}};

introspect::LogLayout make_layout() {
  introspect::LogLayout layout;
  layout.prb = GuestVirtAddr(kRing + 96);
  layout.text_data_ring = 48;
  layout.descs = 8;
  layout.infos = 16;
  layout.head_id = 24;
  layout.tail_id = 32;
  layout.desc_size = 24;
  layout.text_blk_lpos = 8;
  layout.lpos_next = 8;
  layout.info_size = 32;
  layout.ts_nsec = 8;
  layout.text_len = 16;
  layout.facility = 18;
  layout.level_bit = 19 * 8 + 5;
  layout.level_bits = 3;
  layout.data = 8;
  return layout;
}

void fuzz_one(std::span<const std::byte> bytes) {
  static const auto layout = make_layout();
  Input input(bytes);
  const auto from = input.take<std::uint64_t>();
  const auto max = input.take<std::uint16_t>();
  const FuzzMemory memory(kWindows, input);
  for (const auto& log : {introspect::read_kernel_log(memory, layout),
                          introspect::read_kernel_log(memory, layout, from, max)}) {
    if (log) {
      for (const auto& record : log->records) {
        static_cast<void>(introspect::is_trouble(record.text));
        static_cast<void>(log_lines(record));
      }
    }
  }
}

/// Some records, as many as 8 descriptors and 256 bytes hold or more.
Bytes seed(std::uint64_t records) {
  introspect::testing::SparseVirtualMemory memory;
  const auto put = [&memory](std::uint64_t at, auto value) {
    memory.put(GuestVirtAddr(at), value);
  };
  put(kRing + 96, kRing);
  put(kRing, std::uint32_t{3});
  put(kRing + 8, kWindows[1].base);
  put(kRing + 16, kWindows[2].base);
  put(kRing + 48, std::uint32_t{8});
  put(kRing + 56, kWindows[3].base);
  const std::uint64_t first_id = 16;
  for (std::uint64_t seq = 0; seq < records; ++seq) {
    const std::uint64_t id = first_id + seq;
    const std::uint64_t lpos = seq * 32;
    const std::uint64_t desc = kWindows[1].base + id % 8 * 24;
    const std::uint64_t info = kWindows[2].base + id % 8 * 32;
    put(desc, (std::uint64_t{2} << 62U) | id);
    put(desc + 8, lpos);
    put(desc + 16, lpos + 32);
    put(info, seq);
    put(info + 8, seq * 1000);
    put(info + 16, std::uint16_t{20});
    put(kWindows[3].base + lpos % 256, id);
    memory.put_text(GuestVirtAddr(kWindows[3].base + lpos % 256 + 8), "BUG: a line\nanother");
  }
  put(kRing + 24, first_id + records - 1);
  put(kRing + 32, first_id + (records > 8 ? records - 8 : 0));
  Output output;
  output.put<std::uint64_t>(0).put<std::uint16_t>(100);
  put_memory(output, kWindows, memory);
  return output.take();
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(3), seed(8), seed(11)};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

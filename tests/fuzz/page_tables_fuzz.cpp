// SPDX-License-Identifier: Apache-2.0
// Page tables, of four and of five levels.
#include "introspect/memory/address_space.h"
#include "tests/fuzz/fuzz_memory.h"

namespace vpatch::fuzz {
namespace {

using introspect::AddressSpace;
using introspect::Paging;
using introspect::VirtRead;

constexpr std::uint64_t kVirt = 0xffff'ffff'8100'0000;

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto shape = input.take<std::uint8_t>();
  const Paging paging = (shape & 1U) != 0 ? Paging::five_level : Paging::four_level;
  const GuestPhysAddr root((shape >> 1U) * introspect::kPageSize);
  std::array<std::uint64_t, 4> addresses{};
  std::vector<Bytes> buffers;
  for (std::uint64_t& address : addresses) {
    // One that shares most of its tables with kVirt, or any.
    const auto low = input.take<std::uint16_t>();
    address = (low & 1U) != 0 ? kVirt + low : input.take<std::uint64_t>();
    buffers.emplace_back(input.take<std::uint16_t>());
  }
  const FuzzRam memory(input);
  AddressSpace space(memory, root, paging);
  std::vector<VirtRead> reads;
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    const GuestVirtAddr address(addresses.at(index));
    const auto place = space.translate(address);
    const auto one = space.read(address, buffers[index]);
    if (one && !buffers[index].empty() && !place) {
      std::abort();
    }
    reads.push_back({address, buffers[index]});
  }
  space.forget();
  space.read_many(reads);
}

Bytes seed(bool five) {
  Output output;
  output.put(static_cast<std::uint8_t>(five ? 3 : 2));
  for (const int low : {1, 0x801, 0xfff, 0x1001}) {
    output.put(static_cast<std::uint16_t>(low)).put<std::uint16_t>(64);
  }
  // Tables from page 1 on, each leading to the next; the last maps pages 9 and 10.
  const auto entry = [&output](std::uint8_t page, std::uint64_t index,
                               const std::vector<std::uint64_t>& values) {
    Bytes table((index + values.size()) * 8);
    std::memcpy(table.data() + index * 8, values.data(), values.size() * 8);
    output.put(page).put(static_cast<std::uint16_t>(table.size())).put_bytes(table);
  };
  std::uint8_t page = 1;
  if (five) {
    entry(page, 511, {std::uint64_t{2} << 12U | 0x63U});
    ++page;
  }
  const auto next = [&page] { return (std::uint64_t{page} + 1) << 12U | 0x63U; };
  entry(page, 511, {next()});
  ++page;
  entry(page, 510, {next()});
  ++page;
  entry(page, 8, {next(), 0x2000e3});
  ++page;
  entry(page, 0, {0x9063, 0xa063});
  entry(9, 0, {1, 2, 3});
  return output.take();
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(false), seed(true)};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

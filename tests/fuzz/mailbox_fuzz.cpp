// SPDX-License-Identifier: Apache-2.0
// The page that the guest's module and the host share.
#include <elf.h>

#include "guest-module/uapi/vpatch_mailbox.h"
#include "introspect/guest/mailbox.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::fuzz {
namespace {

constexpr std::uint64_t kPage = 0xffff'ffff'c0a0'1000;
// The mailbox; the module's symbols and their names.
constexpr std::array<Window, 2> kWindows = {{{kPage, 4096}, {kPage + 0x10000, 1024}}};
constexpr std::uint64_t kSymtab = kWindows[1].base, kStrtab = kSymtab + 256;

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  introspect::Module module;
  module.name = "vpatch_guest";
  module.symbols = {
      GuestVirtAddr(kSymtab), input.take<std::uint32_t>(), GuestVirtAddr(kStrtab), {}, {}};
  const FuzzMemory memory(kWindows, input);
  const auto found = introspect::find_mailbox(memory, std::span(&module, 1));
  if (found && found->value() % VPATCH_MAILBOX_SIZE != 0) {
    std::abort();
  }
  const auto view = introspect::read_mailbox(memory, found.value_or(GuestVirtAddr(kPage)));
  if (view && (view->version != VPATCH_MAILBOX_VERSION || view->events.size() > VPATCH_EVENTS)) {
    std::abort();
  }
}

Bytes seed(std::uint32_t events) {
  introspect::testing::SparseVirtualMemory memory;
  vpatch_mailbox box{};
  box.guest.magic = VPATCH_MAILBOX_MAGIC;
  box.guest.version = VPATCH_MAILBOX_VERSION;
  box.guest.size = VPATCH_MAILBOX_SIZE;
  box.guest.features = VPATCH_FEATURE_RETRY | VPATCH_FEATURE_RESCHED;
  box.guest.watching = 1;
  box.guest.event_count = events;
  for (auto& event : box.guest.events) {
    event = {1'000'000, VPATCH_EVENT_COMMAND, VPATCH_COMMAND_RETRY};
  }
  box.host.sequence = 7;
  memory.put(GuestVirtAddr(kPage), box);
  memory.write(GuestVirtAddr(kSymtab), Bytes(1024));
  memory.put(GuestVirtAddr(kSymtab + sizeof(Elf64_Sym)),
             Elf64_Sym{1, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, 5, kPage, 4096});
  memory.put_text(GuestVirtAddr(kStrtab + 1), VPATCH_MAILBOX_SYMBOL);
  Output output;
  output.put<std::uint32_t>(2);
  put_memory(output, kWindows, memory);
  return output.take();
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(0), seed(5), seed(200)};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/mailbox.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest-module/uapi/vpatch_mailbox.h"
#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr GuestVirtAddr kMailbox(0xffffffffc0a01000);
constexpr GuestVirtAddr kSymtab(0xffffffffc0b00000);
constexpr GuestVirtAddr kStrtab(0xffffffffc0b01000);

class MailboxTest : public ::testing::Test {
 protected:
  MailboxTest() {
    box.guest.magic = VPATCH_MAILBOX_MAGIC;
    box.guest.version = VPATCH_MAILBOX_VERSION;
    box.guest.size = VPATCH_MAILBOX_SIZE;
  }

  Result<MailboxView> read() {
    memory.put(kMailbox, box);
    return read_mailbox(memory, kMailbox);
  }
  Error refusal() {
    auto view = read();
    EXPECT_FALSE(view.has_value());
    return view ? Error{} : view.error();
  }

  /// The module, with one data symbol.
  Module module(std::string_view symbol, GuestVirtAddr address) {
    memory.put(kSymtab, Elf64_Sym{});
    memory.put(GuestVirtAddr(kSymtab.value() + sizeof(Elf64_Sym)),
               Elf64_Sym{1, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, 5, address.value(), 4096});
    memory.write(kStrtab, std::vector<std::byte>(2 * kPageSize));
    memory.put_text(GuestVirtAddr(kStrtab.value() + 1), symbol);
    Module made;
    made.name = "vpatch_guest";
    made.symbols = {kSymtab, 2, kStrtab, {}, {}};
    return made;
  }

  testing::SparseVirtualMemory memory;
  vpatch_mailbox box{};
};

TEST_F(MailboxTest, TellsEveryField) {
  box.guest.features = VPATCH_FEATURE_RETRY | VPATCH_FEATURE_SIGNAL | 1U << 31U;
  box.guest.watching = 1;
  box.guest.instance = 0x1122334455667788;
  box.guest.acked = 41;
  box.guest.result = -22;
  box.guest.wakeups = 1000;
  box.guest.retries = 4;
  box.guest.rescheds = 5;
  box.guest.signals = 6;
  box.host.sequence = 42;
  const auto view = read();
  ASSERT_TRUE(view.has_value()) << view.error().what;
  EXPECT_EQ(view->version, 1U);
  EXPECT_EQ(view->features, 0x80000005U);
  EXPECT_TRUE(view->watching);
  EXPECT_EQ(view->instance, 0x1122334455667788U);
  EXPECT_EQ(view->acked, 41U);
  EXPECT_EQ(view->result, -22);
  EXPECT_EQ(view->wakeups, 1000U);
  EXPECT_EQ(view->retries, 4U);
  EXPECT_EQ(view->rescheds, 5U);
  EXPECT_EQ(view->signals, 6U);
  EXPECT_EQ(view->sequence, 42U);
  EXPECT_THAT(view->events, IsEmpty());
}

TEST_F(MailboxTest, IsReadAtOnce) {
  memory.put(kMailbox, box);
  memory.reads = 0;
  ASSERT_TRUE(read_mailbox(memory, kMailbox).has_value());
  EXPECT_EQ(memory.reads, 1U);
}

TEST_F(MailboxTest, TellsTheFirstEventsOldestFirst) {
  box.guest.event_count = 3;
  box.guest.events[0] = {100, VPATCH_EVENT_WATCH, 0};
  box.guest.events[1] = {200, VPATCH_EVENT_END, -1};
  box.guest.events[2] = {300, 77, 5};  // of a later module
  const auto view = read();
  ASSERT_TRUE(view.has_value());
  EXPECT_THAT(view->events,
              ElementsAre(MailboxEvent{100, VPATCH_EVENT_WATCH, 0},
                          MailboxEvent{200, VPATCH_EVENT_END, -1}, MailboxEvent{300, 77, 5}));
}

TEST_F(MailboxTest, TellsTheLastEventsOfARingThatHasGoneRound) {
  box.guest.event_count = 2 * VPATCH_EVENTS + 2;
  for (std::uint64_t slot = 0; slot < VPATCH_EVENTS; ++slot) {
    box.guest.events[slot].time_ns = slot;
  }
  const auto view = read();
  ASSERT_TRUE(view.has_value());
  ASSERT_THAT(view->events, SizeIs(VPATCH_EVENTS));
  EXPECT_EQ(view->events.front().time_ns, 2U);
  EXPECT_EQ(view->events.back().time_ns, 1U);
}

TEST_F(MailboxTest, TellsTheLastEventsWhereTheCountIsAboutToWrap) {
  box.guest.event_count = 0xffffffff;
  for (std::uint64_t slot = 0; slot < VPATCH_EVENTS; ++slot) {
    box.guest.events[slot].time_ns = slot;
  }
  const auto view = read();
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view->events.front().time_ns, 63U);
  EXPECT_EQ(view->events.back().time_ns, 62U);
}

TEST_F(MailboxTest, IsCorruptWithoutItsMagic) {
  box.guest.magic = 0;
  EXPECT_EQ(refusal().code, Errc::corrupt);
}

TEST_F(MailboxTest, IsCorruptWithAnotherSize) {
  box.guest.size = 8192;
  EXPECT_EQ(refusal().code, Errc::corrupt);
}

TEST_F(MailboxTest, SaysWhichVersionTheModuleSpeaks) {
  box.guest.version = 2;
  box.guest.size = 8192;  // another version may well have another size
  const Error error = refusal();
  EXPECT_EQ(error.code, Errc::not_found);
  EXPECT_THAT(error.what, HasSubstr("speaks version 2, this vpatch 1"));
}

TEST_F(MailboxTest, FailsWhereItsPageIsNotMapped) {
  EXPECT_EQ(read_mailbox(memory, kMailbox).error().code, Errc::out_of_range);
}

TEST_F(MailboxTest, IsFoundByTheModulesSymbol) {
  Module other;
  other.name = "ext4";
  const std::vector<Module> modules = {other, module("vpatch_mailbox", kMailbox)};
  const auto found = find_mailbox(memory, modules);
  ASSERT_TRUE(found.has_value()) << found.error().what;
  EXPECT_EQ(*found, kMailbox);
}

TEST_F(MailboxTest, SaysThatTheModuleIsNotLoaded) {
  const auto found = find_mailbox(memory, std::span<const Module>());
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Errc::not_found);
  EXPECT_THAT(found.error().what, HasSubstr("vpatch_guest is not loaded"));
}

TEST_F(MailboxTest, SaysThatTheModuleHasNoMailbox) {
  const std::vector<Module> modules = {module("vpatch_letterbox", kMailbox)};
  const auto found = find_mailbox(memory, modules);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Errc::not_found);
  EXPECT_THAT(found.error().what, HasSubstr("no symbol vpatch_mailbox"));
}

TEST_F(MailboxTest, RefusesAMailboxThatDoesNotStartAPage) {
  const std::vector<Module> modules = {
      module("vpatch_mailbox", GuestVirtAddr(kMailbox.value() + 8))};
  const auto found = find_mailbox(memory, modules);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Errc::corrupt);
}

}  // namespace
}  // namespace vpatch::introspect

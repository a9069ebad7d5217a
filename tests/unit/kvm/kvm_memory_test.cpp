// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/kvm/kvm_memory.h"

#include <cstring>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "introspect/memory/unique_fd.h"
#include "kvm_fixture.h"

namespace vpatch::kvm {
namespace {

using introspect::Errc;
using introspect::UniqueFd;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;

UniqueFd memfd_of(std::uint64_t size, int seals) {
  UniqueFd fd(::memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

void put(Machine& machine, std::uint64_t address, std::string_view text) {
  const auto bytes = machine.bytes(GuestPhysAddr(address), text.size());
  ASSERT_TRUE(bytes);
  std::memcpy(bytes->data(), text.data(), text.size());
}

std::string text_at(const KvmMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestPhysAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(introspect::to_string(done.error().code));
}

class KvmMemoryTest : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped() || HasFailure()) {
      return;
    }
    auto made = Machine::create();
    ASSERT_TRUE(made) << made.error().what;
    machine.emplace(*std::move(made));
  }

  std::optional<Machine> machine;
};

TEST_F(KvmMemoryTest, ReadsPrivateAndSharedSlotsAsOne) {
  const UniqueFd shared = memfd_of(2 * kMiB, F_SEAL_SHRINK);
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB));
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(kMiB), kMiB, shared.get(), kMiB));
  put(*machine, kMiB - 2, "ab");
  put(*machine, kMiB, "cd");
  const auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), "abcd");
}

TEST_F(KvmMemoryTest, ReadsASharedSlotThatMayNotBeMapped) {
  const UniqueFd shared = memfd_of(kMiB, F_SEAL_SEAL);
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB, shared.get(), 0));
  put(*machine, 0x3000, "x");
  const auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, 0x3000, 1), "x");
}

TEST_F(KvmMemoryTest, WalksOnlyTouchedPages) {
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kGiB));
  put(*machine, 0x5000, "x");
  put(*machine, 0x6fff, "x");
  const auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory);
  const auto data = memory->next_populated(GuestPhysAddr(0));
  ASSERT_TRUE(data && *data);
  EXPECT_EQ(**data, PhysRange::between(GuestPhysAddr(0x5000), GuestPhysAddr(0x7000)));
  EXPECT_FALSE(memory->next_populated(GuestPhysAddr(0x7000))->has_value());
}

TEST_F(KvmMemoryTest, ReadingHolesOfASharedSlotDoesNotFillThem) {
  const UniqueFd shared = memfd_of(kMiB, F_SEAL_SHRINK);
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB, shared.get(), 0));
  const auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, 0, kMiB), std::string(kMiB, '\0'));
  struct stat status{};
  ASSERT_EQ(::fstat(shared.get(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST_F(KvmMemoryTest, RefusesAReadOutsideOfTheSlots) {
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB));
  const auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, kMiB - 1, 2), "out-of-range");
}

std::string write_text(KvmMemory& memory, std::uint64_t address, std::string_view text) {
  const auto done = memory.write(GuestPhysAddr(address), std::as_bytes(std::span(text)));
  return done ? "done" : std::string(introspect::to_string(done.error().code));
}

TEST_F(KvmMemoryTest, WritesPrivateAndSharedSlotsAsOne) {
  const UniqueFd shared = memfd_of(2 * kMiB, F_SEAL_SHRINK);
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB));
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(kMiB), kMiB, shared.get(), kMiB));
  put(*machine, kMiB - 8, "........");
  put(*machine, kMiB, "........");
  auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(write_text(*memory, kMiB - 2, "abcd"), "done");
  EXPECT_EQ(write_text(*memory, kMiB - 8, "word"), "done");
  const auto below = machine->bytes(GuestPhysAddr(kMiB - 8), 8);
  const auto above = machine->bytes(GuestPhysAddr(kMiB), 4);
  ASSERT_TRUE(below && above);
  EXPECT_EQ(std::memcmp(below->data(), "word..ab", 8), 0);
  EXPECT_EQ(std::memcmp(above->data(), "cd..", 4), 0);
}

TEST_F(KvmMemoryTest, WritesNoPageThatTheGuestHasNeverTouched) {
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), kMiB));
  put(*machine, 0x5000, ".");
  auto memory = KvmMemory::create(*machine);
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x5fff, "ab"), "out-of-range");
  EXPECT_EQ(write_text(*memory, kMiB - 1, "ab"), "out-of-range");
  const auto data = memory->next_populated(GuestPhysAddr(0));
  ASSERT_TRUE(data && *data);
  EXPECT_EQ(**data, PhysRange::between(GuestPhysAddr(0x5000), GuestPhysAddr(0x6000)));
  EXPECT_FALSE(memory->next_populated(GuestPhysAddr(0x6000))->has_value());
}

TEST_F(KvmMemoryTest, SaysNoMemoryWithoutSlots) {
  const auto memory = KvmMemory::create(*machine);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::no_memory);
}

TEST_F(KvmMemoryTest, MachineRefusesRamThatOverlaps) {
  ASSERT_TRUE(machine->add_memory(GuestPhysAddr(0), 2 * kMiB));
  const auto again = machine->add_memory(GuestPhysAddr(kMiB), kMiB);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Errc::out_of_range);
}

TEST_F(KvmMemoryTest, MachineRefusesAFileThatIsTooShort) {
  const UniqueFd shared = memfd_of(kMiB, F_SEAL_SEAL);
  const auto added = machine->add_memory(GuestPhysAddr(0), kMiB, shared.get(), 4096);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, Errc::out_of_range);
}

}  // namespace
}  // namespace vpatch::kvm

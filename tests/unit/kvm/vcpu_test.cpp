// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kvm_fixture.h"
#include "vmm-agent/kvm/kvm_memory.h"
#include "vmm-agent/kvm/machine.h"
#include "vmm-agent/kvm/vcpu_thread.h"

namespace vpatch::kvm {
namespace {

using introspect::GuestVirtAddr;

constexpr std::uint64_t kRam = 64 * 1024;
constexpr std::uint64_t kCode = 0x1000;
constexpr std::uint64_t kCounter = 0x2000;

// Real mode: `1: inc dword [0x2000]; jmp 1b`.
constexpr std::array<std::uint8_t, 7> kCountForever{0x66, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xf9};
// Real mode: `mov al, 'v'; out 0x10, al; hlt`.
constexpr std::array<std::uint8_t, 5> kSayAndHalt{0xb0, 'v', 0xe6, 0x10, 0xf4};

/// A machine with a vCPU that will run `code` in real mode.
struct Guest {
  Machine machine;
  Vcpu vcpu;
};

Guest guest_with(std::span<const std::uint8_t> code) {
  auto machine = Machine::create();
  EXPECT_TRUE(machine && machine->add_memory(GuestPhysAddr(0), kRam));
  std::memcpy(machine->bytes(GuestPhysAddr(kCode), code.size())->data(), code.data(), code.size());
  auto vcpu = machine->add_vcpu();
  EXPECT_TRUE(vcpu) << vcpu.error().what;
  auto sregs = *vcpu->sregs();
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  EXPECT_TRUE(vcpu->set_sregs(sregs));
  kvm_regs regs{};
  regs.rip = kCode;
  regs.rflags = 2;
  regs.rdx = 0x1234;
  EXPECT_TRUE(vcpu->set_regs(regs));
  return {*std::move(machine), *std::move(vcpu)};
}

std::uint32_t counter(const KvmMemory& memory) {
  std::uint32_t value = 0;
  EXPECT_TRUE(memory.read(GuestPhysAddr(kCounter), std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

/// Waits until the guest has counted past `value`, with a limit.
bool counts_past(const KvmMemory& memory, std::uint32_t value) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < limit) {
    if (counter(memory) > value) {
      return true;
    }
    std::this_thread::yield();
  }
  return false;
}

AfterExit never_expected(kvm_run&) {
  ADD_FAILURE() << "the guest exits";
  return AfterExit::stop;
}

class VcpuTest : public KvmTest {};

TEST_F(VcpuTest, RunsToItsExit) {
  auto guest = guest_with(kSayAndHalt);
  const auto exit = guest.vcpu.run();
  ASSERT_TRUE(exit && *exit != nullptr);
  EXPECT_EQ((*exit)->exit_reason, static_cast<std::uint32_t>(KVM_EXIT_IO));
  EXPECT_EQ((*exit)->io.port, 0x10);
}

TEST_F(VcpuTest, DoesNotRunWhenAnExitIsRequested) {
  auto guest = guest_with(kCountForever);
  guest.vcpu.request_exit(true);
  const auto exit = guest.vcpu.run();
  ASSERT_TRUE(exit) << exit.error().what;
  EXPECT_EQ(*exit, nullptr);
}

TEST_F(VcpuTest, TellsTheRegistersIntrospectionNeeds) {
  const auto guest = guest_with(kCountForever);
  const auto registers = guest.vcpu.registers();
  ASSERT_TRUE(registers) << registers.error().what;
  EXPECT_EQ(registers->rip, GuestVirtAddr(kCode));
  EXPECT_EQ(registers->rdx, 0x1234U);
}

TEST_F(VcpuTest, StandsStillWhilePausedAndGoesOnWhenResumed) {
  auto guest = guest_with(kCountForever);
  const auto memory = KvmMemory::create(guest.machine);
  ASSERT_TRUE(memory);
  const auto thread = VcpuThread::start(std::move(guest.vcpu), never_expected);
  ASSERT_TRUE(thread) << thread.error().what;
  (*thread)->resume();
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(counts_past(*memory, counter(*memory)));
    (*thread)->pause();
    const std::uint32_t before = counter(*memory);
    const auto registers = (*thread)->vcpu().registers();
    ASSERT_TRUE(registers);
    EXPECT_GE(registers->rip, GuestVirtAddr(kCode));
    EXPECT_LT(registers->rip, GuestVirtAddr(kCode + kCountForever.size()));
    std::this_thread::yield();
    ASSERT_EQ(counter(*memory), before);
    (*thread)->resume();
  }
}

TEST_F(VcpuTest, StartsPaused) {
  auto guest = guest_with(kCountForever);
  const auto memory = KvmMemory::create(guest.machine);
  ASSERT_TRUE(memory);
  const auto thread = VcpuThread::start(std::move(guest.vcpu), never_expected);
  ASSERT_TRUE(thread);
  (*thread)->pause();
  EXPECT_EQ(counter(*memory), 0U);
}

TEST_F(VcpuTest, HandsExitsToTheHandlerUntilItSaysStop) {
  auto guest = guest_with(kSayAndHalt);
  std::vector<std::uint32_t> exits;
  const auto thread = VcpuThread::start(std::move(guest.vcpu), [&](kvm_run& exit) {
    exits.push_back(exit.exit_reason);
    return exit.exit_reason == KVM_EXIT_HLT ? AfterExit::stop : AfterExit::go_on;
  });
  ASSERT_TRUE(thread);
  (*thread)->resume();
  EXPECT_TRUE((*thread)->wait());
  EXPECT_EQ(exits, (std::vector<std::uint32_t>{KVM_EXIT_IO, KVM_EXIT_HLT}));
}

TEST_F(VcpuTest, PausingAndResumingWhatHasEndedReturns) {
  auto guest = guest_with(kSayAndHalt);
  const auto thread =
      VcpuThread::start(std::move(guest.vcpu), [](kvm_run&) { return AfterExit::stop; });
  ASSERT_TRUE(thread);
  (*thread)->resume();
  EXPECT_TRUE((*thread)->wait());
  (*thread)->pause();
  (*thread)->resume();
  EXPECT_TRUE((*thread)->wait());
}

TEST_F(VcpuTest, IsStoppedByTheEndOfItsThreadObject) {
  auto guest = guest_with(kCountForever);
  const auto memory = KvmMemory::create(guest.machine);
  ASSERT_TRUE(memory);
  {
    const auto thread = VcpuThread::start(std::move(guest.vcpu), never_expected);
    ASSERT_TRUE(thread);
    (*thread)->resume();
    ASSERT_TRUE(counts_past(*memory, 0));
  }
  const std::uint32_t before = counter(*memory);
  std::this_thread::yield();
  EXPECT_EQ(counter(*memory), before);
}

}  // namespace
}  // namespace vpatch::kvm

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/vcpu_registers.h"

#include <cstdint>
#include <random>
#include <string>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using introspect::GuestVirtAddr;
using introspect::VcpuRegisters;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// QEMU 7.2 with TCG, as human-monitor-command gives it; its rows of other registers are left out.
constexpr std::string_view kKernelVcpu =
    "\r\nCPU#0\r\n"
    "RAX=0000000000000000 RBX=0000000000009000 RCX=00000000000001a9 RDX=0000000000001000\r\n"
    "RSI=0000000000001000 RDI=00007f83c327d2b8 RBP=00007f83c3276000 RSP=ffffd205c0603b88\r\n"
    "R8 =0000000000007000 R9 =ffff8ab24138c6b0 R10=0000000000000447 R11=0000000000000000\r\n"
    "R12=0000000000007000 R13=ffff8ab25adac800 R14=0000000000010000 R15=ffffd205c0603c58\r\n"
    "RIP=ffffffffa09c2a1e RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
    "ES =0000 0000000000000000 00000000 00000000\r\n"
    "CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]\r\n"
    "FS =0000 00000000366fb3c0 00000000 00000000\r\n"
    "GS =0000 ffff8ab25ee00000 00000000 00000000\r\n"
    "GDT=     fffffe0000001000 0000007f\r\n"
    "CR0=80050033 CR2=00005633869dc000 CR3=000000001ad5a000 CR4=000006b0\r\n"
    "EFER=0000000000000d01\r\n"
    "XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000\r\n";

constexpr std::string_view kHaltedUserVcpu =
    "\r\nCPU#1\r\n"
    "RAX=000000000b4e1010 RBX=000000000b4e0ab0 RCX=000000000b4e1010 RDX=000000000b4e1010\r\n"
    "RSI=0000000000000000 RDI=0000000000000000 RBP=0000000000000000 RSP=00007ffc0f4d6650\r\n"
    "R8 =0000000000000000 R9 =0000000000000000 R10=0000000000447060 R11=0000000000000000\r\n"
    "R12=000000000b4e0a20 R13=0000000000000004 R14=0000000000000000 R15=0000000000000003\r\n"
    "RIP=000000000052e649 RFL=00000246 [-----P-] CPL=3 II=0 A20=1 SMM=0 HLT=1\r\n"
    "CS =0033 0000000000000000 ffffffff 00affb00 DPL=3 CS64 [-RA]\r\n"
    "GS =0000 0000000000000000 00000000 00000000\r\n"
    "CR0=80050033 CR2=000000000042ee70 CR3=000000001ad52000 CR4=000006a0\r\n";

// A vCPU in 32-bit code.
constexpr std::string_view k32BitVcpu =
    "CPU#2\n"
    "EAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004\n"
    "ESI=00000005 EDI=00000006 EBP=00000007 ESP=ffb3c8d0\n"
    "EIP=08049000 EFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n"
    "CS =0023 00000000 ffffffff 00cffb00 DPL=3 CS32 [-RA]\n"
    "GS =0063 f7f5a500 ffffffff 00cff300 DPL=3 DS   [-WA]\n"
    "CR0=80050033 CR2=f7f5a000 CR3=1ad52000 CR4=000006a0\n";

VcpuRegisters kernel_vcpu() {
  VcpuRegisters vcpu;
  vcpu.rip = GuestVirtAddr(0xffffffffa09c2a1e);
  vcpu.rsp = GuestVirtAddr(0xffffd205c0603b88);
  vcpu.rbp = 0x7f83c3276000;
  vcpu.r10 = 0x447;
  vcpu.r13 = 0xffff8ab25adac800;
  vcpu.rdi = 0x7f83c327d2b8;
  vcpu.rdx = 0x1000;
  vcpu.rflags = 0x206;
  vcpu.cr3 = 0x1ad5a000;
  vcpu.cr4 = 0x6b0;
  vcpu.gs_base = 0xffff8ab25ee00000;
  vcpu.cs = 0x10;
  return vcpu;
}

/// kKernelVcpu with `from` replaced.
std::string with(std::string_view from, std::string_view to) {
  std::string text(kKernelVcpu);
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(VcpuRegistersText, OfAVcpuInTheKernelGivesEveryRegister) {
  EXPECT_THAT(parse_registers(kKernelVcpu), ElementsAre(kernel_vcpu()));
}

TEST(VcpuRegistersText, OfTwoVcpusGivesBothInOrder) {
  const auto vcpus = parse_registers(std::string(kKernelVcpu) + std::string(kHaltedUserVcpu));
  ASSERT_THAT(vcpus, SizeIs(2));
  EXPECT_EQ(vcpus[0], kernel_vcpu());
  EXPECT_EQ(vcpus[1].index, 1U);
  EXPECT_EQ(vcpus[1].rip, GuestVirtAddr(0x52e649));
}

TEST(VcpuRegistersText, TellsAHaltedVcpu) {
  EXPECT_TRUE(parse_registers(kHaltedUserVcpu).at(0).halted);
  EXPECT_FALSE(parse_registers(kKernelVcpu).at(0).halted);
}

TEST(VcpuRegistersText, TellsAVcpuInUserMode) {
  EXPECT_TRUE(parse_registers(kHaltedUserVcpu).at(0).user_mode());
  EXPECT_FALSE(parse_registers(kKernelVcpu).at(0).user_mode());
}

TEST(VcpuRegistersText, OfAVcpuIn32BitCodeHasItsNarrowRegisters) {
  VcpuRegisters vcpu;
  vcpu.index = 2;
  vcpu.rip = GuestVirtAddr(0x8049000);
  vcpu.rsp = GuestVirtAddr(0xffb3c8d0);
  vcpu.rbp = 7;
  vcpu.rdi = 6;
  vcpu.rdx = 4;
  vcpu.rflags = 0x202;
  vcpu.cr3 = 0x1ad52000;
  vcpu.cr4 = 0x6a0;
  vcpu.gs_base = 0xf7f5a500;
  vcpu.cs = 0x23;
  EXPECT_THAT(parse_registers(k32BitVcpu), ElementsAre(vcpu));
}

TEST(VcpuRegistersText, WithoutVcpusIsEmpty) {
  for (const char* text : {"", "\r\n", "CPU#0", "CPU#0\r\n", "no CPU here\n", "RIP=1 RSP=2\n"}) {
    EXPECT_THAT(parse_registers(text), IsEmpty()) << text;
  }
}

TEST(VcpuRegistersText, DropsAVcpuThatLacksARegister) {
  for (const char* name : {"RIP=", "RSP=", "RBP=", "R10=", "R13=", "RDI=", "RDX=", "RFL=", "CS =",
                           "GS =", "CR3=", "CR4=", "HLT="}) {
    EXPECT_THAT(parse_registers(with(name, "XXX=")), IsEmpty()) << name;
  }
}

TEST(VcpuRegistersText, DropsAVcpuWithAMalformedNumber) {
  for (const char* bad : {"RIP=zzzz", "RIP=", "RIP=-1", "RIP=1ffffffffffffffff", "RIP=0x10"}) {
    EXPECT_THAT(parse_registers(with("RIP=ffffffffa09c2a1e", bad)), IsEmpty()) << bad;
  }
  EXPECT_THAT(parse_registers(with("CS =0010", "CS =10010")), IsEmpty());
  EXPECT_THAT(parse_registers(with("GS =0000 ffff8ab25ee00000", "GS =0000")), SizeIs(1));
}

TEST(VcpuRegistersText, DropsAVcpuWithAMalformedHeading) {
  for (const char* bad : {"CPU#", "CPU#x", "CPU#-1", "CPU#8192", "CPU#99999999999999999999"}) {
    EXPECT_THAT(parse_registers(with("CPU#0", bad)), IsEmpty()) << bad;
  }
}

TEST(VcpuRegistersText, DoesNotTakeRegistersOfADroppedVcpuForTheOneBefore) {
  const std::string text =
      std::string(kKernelVcpu) + with("CPU#0", "CPU#x") + std::string(kHaltedUserVcpu);
  const auto vcpus = parse_registers(text);
  ASSERT_THAT(vcpus, SizeIs(2));
  EXPECT_EQ(vcpus[0], kernel_vcpu());
  EXPECT_EQ(vcpus[1].index, 1U);
}

TEST(VcpuRegistersText, CutAnywhereGivesNothingWrong) {
  for (std::size_t length = 0; length < kKernelVcpu.size(); ++length) {
    const auto vcpus = parse_registers(kKernelVcpu.substr(0, length));
    if (!vcpus.empty()) {
      EXPECT_THAT(vcpus, ElementsAre(kernel_vcpu())) << length;
    }
  }
}

TEST(VcpuRegistersText, GivesNoMoreThanItsCapOfVcpus) {
  std::string text;
  for (int i = 0; i < 8300; ++i) {
    text += k32BitVcpu;
  }
  EXPECT_THAT(parse_registers(text), SizeIs(8192));
}

TEST(VcpuRegistersText, SurvivesDamage) {
  const std::string whole = std::string(kKernelVcpu) + std::string(kHaltedUserVcpu);
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    std::minstd_rand random(seed);
    std::string text = whole;
    for (int i = 0; i < 30; ++i) {
      text[random() % text.size()] = static_cast<char>(random() >> 8U);
    }
    EXPECT_LE(parse_registers(text).size(), 2U + 30U);
  }
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <span>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "introspect/memory/address_space.h"
#include "kvm_fixture.h"
#include "page_tables.h"
#include "vmm-agent/kvm/kvm_memory.h"
#include "vmm-agent/kvm/machine.h"

namespace vpatch::kvm {
namespace {

using introspect::AddressSpace;
using introspect::Errc;
using introspect::GuestVirtAddr;
using introspect::Paging;

constexpr std::uint64_t kRam = std::uint64_t{4} << 20U;
constexpr std::uint64_t kLa57 = 1U << 12U;

/// Long mode with paging, as the walk needs it: CR0.PG and PE, CR4.PAE, EFER.LME, LMA and NXE.
kvm_sregs with_paging(kvm_sregs sregs, introspect::GuestPhysAddr root, Paging paging) {
  sregs.cr3 = root.value();
  sregs.cr4 = 0x20 | (paging == Paging::five_level ? kLa57 : 0);
  sregs.efer = 0xd00;
  sregs.cr0 = 0x80000001;
  return sregs;
}

/// Whether KVM's walk knows pages of 1 GiB; where it does not, it takes their mark as reserved.
bool knows_gigantic_pages() {
  auto machine = Machine::create();
  EXPECT_TRUE(machine && machine->add_memory(GuestPhysAddr(0), kRam));
  constexpr std::array<std::uint64_t, 1> kToNext{0x1001};
  constexpr std::array<std::uint64_t, 1> kGigantic{0x40000081};
  const auto ram = *machine->bytes(GuestPhysAddr(0), kRam);
  std::ranges::copy(std::as_bytes(std::span(kToNext)), ram.begin());
  std::ranges::copy(std::as_bytes(std::span(kGigantic)), ram.begin() + 0x1000);
  auto vcpu = machine->add_vcpu();
  EXPECT_TRUE(vcpu &&
              vcpu->set_sregs(with_paging(*vcpu->sregs(), GuestPhysAddr(0), Paging::four_level)));
  const auto found = vcpu->translate(GuestVirtAddr(0x1234));
  return found && *found == GuestPhysAddr(0x40001234);
}

struct Compared {
  std::size_t all = 0, equal = 0, mapped = 0;
};

/// Walks `count` addresses of tables made from `seed`, with KVM and with AddressSpace; nothing when
/// KVM does not take these registers.
std::optional<Compared> compare(Paging paging, bool gigantic, std::uint32_t seed,
                                std::size_t count) {
  auto machine = Machine::create();
  EXPECT_TRUE(machine && machine->add_memory(GuestPhysAddr(0), kRam));
  RandomPageTables tables(*machine->bytes(GuestPhysAddr(0), kRam), paging, gigantic, seed);
  auto vcpu = machine->add_vcpu();
  EXPECT_TRUE(vcpu) << vcpu.error().what;
  if (!vcpu->set_sregs(with_paging(*vcpu->sregs(), tables.root(), paging))) {
    return std::nullopt;
  }
  const auto memory = KvmMemory::create(*machine);
  EXPECT_TRUE(memory);
  const AddressSpace space(*memory, tables.root(), paging);
  Compared compared;
  for (; compared.all < count; ++compared.all) {
    const GuestVirtAddr address = tables.address();
    const auto kvm = vcpu->translate(address);
    EXPECT_TRUE(kvm) << kvm.error().what;
    const auto ours = space.translate(address);
    const bool equal =
        kvm && kvm->has_value() == ours.has_value() && (!ours || ours->phys == **kvm);
    compared.equal += equal ? 1U : 0U;
    compared.mapped += ours ? 1U : 0U;
    EXPECT_TRUE(equal) << fmt::format("seed {} address {:#x}: KVM {:#x}, ours {:#x} {}", seed,
                                      address.value(), kvm && *kvm ? (*kvm)->value() : 0,
                                      ours ? ours->phys.value() : 0, ours ? "" : ours.error().what);
    if (!equal) {
      break;
    }
  }
  return compared;
}

/// Twenty sets of tables, 100,000 addresses in all.
void compare_many(Paging paging) {
  const bool gigantic = knows_gigantic_pages();
  Compared sum;
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    const auto one = compare(paging, gigantic, seed, 5000);
    if (!one) {
      GTEST_SKIP() << "KVM does not let CR4.LA57 be set here";
    }
    sum.all += one->all;
    sum.equal += one->equal;
    sum.mapped += one->mapped;
  }
  std::printf("compared %zu, equal %zu (%zu of them mapped)%s\n", sum.all, sum.equal, sum.mapped,
              gigantic ? "" : "; without 1 GiB pages, which KVM refuses here");
  EXPECT_EQ(sum.all, 100000U);
  EXPECT_EQ(sum.equal, sum.all);
  EXPECT_GT(sum.mapped, sum.all / 4);
}

class Translate : public KvmTest {};

TEST_F(Translate, AgreesWithKvmOnFourLevels) {
  compare_many(Paging::four_level);
}

TEST_F(Translate, AgreesWithKvmOnFiveLevels) {
  compare_many(Paging::five_level);
}

}  // namespace
}  // namespace vpatch::kvm

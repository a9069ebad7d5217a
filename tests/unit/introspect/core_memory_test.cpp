// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/core_memory.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"

namespace vpatch::introspect {
namespace {

using namespace std::string_view_literals;
using testing::HasSubstr;

constexpr std::size_t kHeaders = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);

template <class T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// One note with its paddings.
std::string note(std::string_view name, std::uint32_t type, std::string_view text) {
  std::string bytes;
  append(bytes, Elf64_Nhdr{static_cast<Elf64_Word>(name.size()),
                           static_cast<Elf64_Word>(text.size()), type});
  bytes.append(name).resize((bytes.size() + 3) / 4 * 4);
  bytes.append(text).resize((bytes.size() + 3) / 4 * 4);
  return bytes;
}

/// What QEMU writes of a vCPU: each 64-bit word of it has its own number, from 0x1000 on.
std::string qemu_vcpu(std::uint32_t version = 1) {
  std::string text;
  append(text, version);
  append(text, std::uint32_t{440});
  for (std::uint64_t word = 0x1000; text.size() < 440; ++word) {
    append(text, word);
  }
  return text;
}

/// An ELF core with one PT_NOTE and two PT_LOAD segments; a test changes what it is about.
struct Core {
  Elf64_Ehdr header{};
  std::array<Elf64_Phdr, 3> segments{};
  std::string notes = note("CORE\0"sv, NT_PRSTATUS, std::string(336, 'p')) +
                      note("QEMU\0"sv, 0, qemu_vcpu()) + note("QEMU\0"sv, 0, qemu_vcpu());
  std::string low = std::string(0x2000, 'a');
  std::string high = std::string(0x1000, 'z');

  Core() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_CORE;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 3;
    place();
  }

  /// Lays out the parts one after the other.
  void place() {
    segments[0].p_type = PT_NOTE;
    segments[0].p_offset = kHeaders;
    segments[0].p_filesz = segments[0].p_memsz = notes.size();
    segments[1].p_type = segments[2].p_type = PT_LOAD;
    segments[1].p_offset = kHeaders + notes.size();
    segments[1].p_filesz = segments[1].p_memsz = low.size();
    segments[2].p_offset = segments[1].p_offset + low.size();
    segments[2].p_filesz = segments[2].p_memsz = high.size();
    segments[2].p_vaddr = segments[2].p_paddr = 0xfffc0000;
  }

  std::string bytes() const {
    std::string all;
    append(all, header);
    append(all, segments);
    return all + notes + low + high;
  }
};

/// A file in memory, and a path to it.
class CoreMemory : public testing::Test {
 protected:
  void put(std::string_view bytes, off_t at = 0) const {
    ASSERT_EQ(::pwrite(fd_.get(), bytes.data(), bytes.size(), at),
              static_cast<ssize_t>(bytes.size()));
  }
  Result<CoreFile> open() const { return open_core("/proc/self/fd/" + std::to_string(fd_.get())); }

  Result<CoreFile> open(std::string_view bytes) const {
    EXPECT_EQ(::ftruncate(fd_.get(), 0), 0);
    put(bytes);
    return open();
  }
  Error refusal(std::string_view bytes) const {
    auto core = open(bytes);
    EXPECT_FALSE(core);
    return core ? Error{} : core.error();
  }

  UniqueFd fd_{::memfd_create("core", MFD_CLOEXEC)};
};

std::string text_at(const GuestMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestPhysAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(to_string(done.error().code));
}

TEST_F(CoreMemory, ReadsRamThatIsNotPageAlignedInTheFile) {
  Core made;
  made.low.replace(0xffe, 4, "abcd");
  const auto core = open(made.bytes());
  ASSERT_TRUE(core) << core.error().what;
  ASSERT_NE(made.segments[1].p_offset % kPageSize, 0U);
  EXPECT_EQ(text_at(core->memory, 0xffe, 4), "abcd");
  EXPECT_EQ(text_at(core->memory, 0xfffc0000, 2), "zz");
}

TEST_F(CoreMemory, IsNeverWritten) {
  auto core = open(Core().bytes());
  ASSERT_TRUE(core) << core.error().what;
  const auto done =
      core->memory.write(GuestPhysAddr(0), std::as_bytes(std::span(std::string_view("x"))));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::permission);
  EXPECT_EQ(text_at(core->memory, 0, 1), "a");
}

TEST_F(CoreMemory, WalksAllOfRamThatIsNotPageAlignedInTheFile) {
  const auto core = open(Core().bytes());
  ASSERT_TRUE(core) << core.error().what;
  const auto low = core->memory.next_populated(GuestPhysAddr(0x1800));
  ASSERT_TRUE(low && *low);
  EXPECT_EQ(**low, PhysRange::between(GuestPhysAddr(0x1000), GuestPhysAddr(0x2000)));
  const auto high = core->memory.next_populated((*low)->end());
  ASSERT_TRUE(high && *high);
  EXPECT_EQ(**high, PhysRange::between(GuestPhysAddr(0xfffc0000), GuestPhysAddr(0xfffc1000)));
}

TEST_F(CoreMemory, TakesTheRegistersFromQemusNotes) {
  const auto core = open(Core().bytes());
  ASSERT_TRUE(core) << core.error().what;
  ASSERT_EQ(core->vcpus.size(), 2U);
  // The words are, from 0x1000 on: rax to r15, rip, rflags, ten segments of three, cr0 to cr4, gs.
  const VcpuRegisters& vcpu = core->vcpus[1];
  EXPECT_EQ(vcpu.index, 1U);
  EXPECT_EQ(vcpu.rdx, 0x1003U);
  EXPECT_EQ(vcpu.rdi, 0x1005U);
  EXPECT_EQ(vcpu.rsp, GuestVirtAddr(0x1006));
  EXPECT_EQ(vcpu.rbp, 0x1007U);
  EXPECT_EQ(vcpu.r10, 0x100aU);
  EXPECT_EQ(vcpu.r13, 0x100dU);
  EXPECT_EQ(vcpu.rip, GuestVirtAddr(0x1010));
  EXPECT_EQ(vcpu.rflags, 0x1011U);
  EXPECT_EQ(vcpu.cs, 0x1012U);
  EXPECT_EQ(vcpu.gs_base, 0x1000U + 18 + 3 * 4 + 2);
  EXPECT_EQ(vcpu.cr3, 0x1000U + 18 + 30 + 3);
  EXPECT_EQ(vcpu.cr4, 0x1000U + 18 + 30 + 4);
  EXPECT_EQ(vcpu.kernel_gs_base, 0x1000U + 18 + 30 + 5);
}

TEST_F(CoreMemory, SaysThatAFileIsKdumpCompressed) {
  const Error error = refusal(std::string("KDUMP   ") + std::string(4096, '\0'));
  EXPECT_EQ(error.code, Errc::no_memory);
  EXPECT_THAT(error.what, HasSubstr("kdump"));
}

TEST_F(CoreMemory, SaysThatACoreWasWrittenWithPaging) {
  Core made;
  made.segments[1].p_vaddr = 0xffff888000000000;
  const Error error = refusal(made.bytes());
  EXPECT_EQ(error.code, Errc::no_memory);
  EXPECT_THAT(error.what, HasSubstr("paging"));
}

TEST_F(CoreMemory, RefusesACoreOfAnotherMachine) {
  Core made;
  made.header.e_machine = EM_AARCH64;
  EXPECT_EQ(refusal(made.bytes()).code, Errc::no_memory);
}

TEST_F(CoreMemory, RefusesAnotherKindOfElfFile) {
  Core made;
  made.header.e_type = ET_DYN;
  EXPECT_EQ(refusal(made.bytes()).code, Errc::no_memory);
}

TEST_F(CoreMemory, RefusesACoreWithoutNotesOfQemu) {
  Core made;
  made.notes = note("CORE\0"sv, NT_PRSTATUS, std::string(336, 'p'));
  made.place();
  EXPECT_EQ(refusal(made.bytes()).code, Errc::no_memory);
}

TEST_F(CoreMemory, RefusesNotesOfAnUnknownVersion) {
  Core made;
  made.notes = note("QEMU\0"sv, 0, qemu_vcpu(2));
  made.place();
  EXPECT_EQ(refusal(made.bytes()).code, Errc::no_memory);
}

TEST_F(CoreMemory, SaysCorruptForANoteThatIsTooShort) {
  Core made;
  made.notes = note("QEMU\0"sv, 0, qemu_vcpu().substr(0, 439));
  made.place();
  EXPECT_EQ(refusal(made.bytes()).code, Errc::corrupt);
}

TEST_F(CoreMemory, SaysCorruptWhenNotesLieOutsideOfTheFile) {
  Core made;
  made.segments[0].p_offset = 0x7fff'ffff'ffff'f000;
  EXPECT_EQ(refusal(made.bytes()).code, Errc::corrupt);
}

TEST_F(CoreMemory, RefusesRamThatLiesOutsideOfTheFile) {
  const std::string bytes = Core().bytes();
  EXPECT_EQ(refusal(bytes.substr(0, bytes.size() - 1)).code, Errc::out_of_range);
}

TEST_F(CoreMemory, RefusesAFileThatIsNotRegular) {
  const auto core = open_core("/dev/null");
  ASSERT_FALSE(core);
  EXPECT_EQ(core.error().code, Errc::no_memory);
}

TEST_F(CoreMemory, SaysWhenThereIsNoFile) {
  const auto core = open_core("/nonexistent/core");
  ASSERT_FALSE(core);
  EXPECT_EQ(core.error().sys_errno, ENOENT);
}

TEST_F(CoreMemory, SurvivesEveryLengthOfAFile) {
  const std::string bytes = Core().bytes();
  for (std::size_t size = 0; size < kHeaders + 1500; ++size) {
    EXPECT_FALSE(open(bytes.substr(0, size))) << size;
  }
}

TEST_F(CoreMemory, SurvivesEveryByteOfItsHeadersBeingAnythingElse) {
  const std::string bytes = Core().bytes();
  ASSERT_TRUE(open(bytes));
  for (std::size_t at = 0; at < kHeaders + 400; ++at) {
    for (const char value : {'\0', '\xff', '\x7f'}) {
      put(std::string_view(&value, 1), static_cast<off_t>(at));
      const auto core = open();
      EXPECT_TRUE(!core || core->memory.regions().size() <= 2) << at;
    }
    put(std::string_view(bytes).substr(at, 1), static_cast<off_t>(at));
  }
}

}  // namespace
}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/process_memory.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_guest.h"
#include "introspect/memory/unique_mapping.h"

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A child that lives until this object ends, with what this process had mapped when it was made.
class Child {
 public:
  /// `prepare` runs in the child before the constructor returns.
  template <class Prepare>
  explicit Child(Prepare prepare) {
    int ends[2]{-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      prepare();
      if (::write(ends[1], "x", 1) != 1) {
        ::_exit(1);
      }
      for (;;) {
        ::pause();
      }
    }
    char ready = 0;
    EXPECT_EQ(::read(ends[0], &ready, 1), 1);
    ::close(ends[0]);
    ::close(ends[1]);
  }
  Child() : Child([] {}) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }

  pid_t pid() const { return pid_; }

  void end() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
  }

 private:
  pid_t pid_ = -1;
};

/// Anonymous memory that a VMM could use as RAM.
class Ram {
 public:
  explicit Ram(std::uint64_t size)
      : bytes_(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
               size) {
    EXPECT_TRUE(bytes_);
  }

  HostAddr at(std::uint64_t offset) const {
    return HostAddr(reinterpret_cast<std::uintptr_t>(bytes_.start()) + offset);
  }
  void put(std::uint64_t offset, std::string_view text) const {
    std::memcpy(bytes_.start() + offset, text.data(), text.size());
  }
  const std::byte* bytes(std::uint64_t offset) const { return bytes_.start() + offset; }
  void forbid(std::uint64_t offset, std::uint64_t size) const {
    EXPECT_EQ(::mprotect(bytes_.start() + offset, size, PROT_NONE), 0);
    // Also for /proc/PID/mem, which does not mind the protection.
    EXPECT_EQ(::munmap(bytes_.start() + offset, size), 0);
  }

 private:
  UniqueMapping bytes_;
};

std::string text_at(const GuestMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestPhysAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(to_string(done.error().code));
}

std::vector<PhysRead> reads_of(std::string& into, const std::vector<std::uint64_t>& addresses) {
  into.assign(addresses.size(), '?');
  std::vector<PhysRead> reads;
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    reads.push_back({GuestPhysAddr(addresses[index]),
                     std::as_writable_bytes(std::span(into).subspan(index, 1))});
  }
  return reads;
}

TEST(ProcessMemory, ReadsAnotherProcessesMemory) {
  const Ram ram(2 * kMiB);
  ram.put(0x1ffe, "abcd");
  const Child child;
  ram.put(0x1ffe, "here");
  const auto memory =
      ProcessMemory::create(child.pid(), {{GuestPhysAddr(4 * kGiB), 2 * kMiB, ram.at(0)}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, 4 * kGiB + 0x1ffe, 4), "abcd");
}

TEST(ProcessMemory, ReadsAcrossAdjoiningRegionsThatLieApartInTheProcess) {
  const Ram ram(4 * kMiB);
  ram.put(3 * kMiB - 2, "ab");
  ram.put(0, "cd");
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(2 * kMiB)},
                                                         {GuestPhysAddr(kMiB), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), "abcd");
  std::string into(4, '?');
  PhysRead one{GuestPhysAddr(kMiB - 2), std::as_writable_bytes(std::span(into))};
  memory->read_many(std::span(&one, 1));
  EXPECT_TRUE(one.done);
  EXPECT_EQ(into, "abcd");
}

TEST(ProcessMemory, ReadsMoreAtOnceThanOneCallTakes) {
  const Ram ram(4 * kMiB);
  std::vector<std::uint64_t> addresses;
  std::string expected;
  for (std::uint64_t at = 0; at < 5000; ++at) {
    const std::uint64_t address = at * 769 % (4 * kMiB);
    const auto letter = static_cast<char>('a' + at % 26);
    ram.put(address, std::string(1, letter));
    addresses.push_back(address);
    expected += letter;
  }
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), 4 * kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  std::string into;
  auto reads = reads_of(into, addresses);
  memory->read_many(reads);
  EXPECT_TRUE(std::ranges::all_of(reads, &PhysRead::done));
  EXPECT_EQ(into, expected);
}

TEST(ProcessMemory, OnePageThatCannotBeReadFailsOnlyItsOwnReads) {
  const Ram ram(kMiB);
  ram.put(0, std::string(kMiB, 'a'));
  ram.forbid(0x5000, 0x1000);
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  std::string into;
  auto reads = reads_of(into, {0x1000, 0x5000, 0x6000, 0x5fff, 0x5001, 2 * kMiB, 0x7000});
  memory->read_many(reads);
  std::vector<bool> done;
  for (const PhysRead& one : reads) {
    done.push_back(one.done);
  }
  EXPECT_THAT(done, ElementsAre(true, false, true, false, false, false, true));
  EXPECT_EQ(text_at(*memory, 0x4fff, 2), "io");
  EXPECT_EQ(text_at(*memory, 0x4ffe, 2), "aa");
}

TEST(ProcessMemory, AReadThatRunsIntoABadPageFailsAsAWhole) {
  const Ram ram(kMiB);
  ram.put(0, std::string(kMiB, 'a'));
  ram.forbid(0x5000, 0x1000);
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  std::string wide(0x3000, '?');
  std::string after(1, '?');
  std::array<PhysRead, 2> reads{
      PhysRead{GuestPhysAddr(0x4000), std::as_writable_bytes(std::span(wide))},
      PhysRead{GuestPhysAddr(0x8000), std::as_writable_bytes(std::span(after))}};
  memory->read_many(reads);
  EXPECT_FALSE(reads[0].done);
  EXPECT_TRUE(reads[1].done);
}

TEST(ProcessMemory, WalksOnlyPagesThatExistAndTouchesNone) {
  const Ram ram(kGiB);
  ram.put(0x5000, "x");
  ram.put(0x6fff, "x");
  ram.put(700 * kMiB, "x");
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kGiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  for (int walk = 0; walk < 2; ++walk) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
    for (GuestPhysAddr from(0);;) {
      const auto data = memory->next_populated(from);
      ASSERT_TRUE(data);
      if (!*data) {
        break;
      }
      found.emplace_back((*data)->start().value(), (*data)->size());
      from = (*data)->end();
    }
    EXPECT_THAT(found, ElementsAre(std::pair(0x5000, 0x2000), std::pair(700 * kMiB, 0x1000)));
  }
}

TEST(ProcessMemory, ANewWalkSeesPagesThatCameLater) {
  const Ram ram(kMiB);
  ram.put(0x5000, "x");
  const auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  EXPECT_EQ((*memory->next_populated(GuestPhysAddr(0)))->start(), GuestPhysAddr(0x5000));
  ram.put(0x2000, "x");
  EXPECT_EQ((*memory->next_populated(GuestPhysAddr(0)))->start(), GuestPhysAddr(0x2000));
}

TEST(ProcessMemory, SaysThatTheProcessHasEnded) {
  const Ram ram(kMiB);
  ram.put(0, "x");
  Child child;
  const auto memory = ProcessMemory::create(child.pid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  child.end();
  std::byte byte{};
  const auto done = memory->read(GuestPhysAddr(0), std::span(&byte, 1));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().sys_errno, ESRCH);
  PhysRead one{GuestPhysAddr(0), std::span(&byte, 1), true};
  memory->read_many(std::span(&one, 1));
  EXPECT_FALSE(one.done);
  EXPECT_FALSE(memory->next_populated(GuestPhysAddr(0)));
}

TEST(ProcessMemory, SaysThatThereIsNoSuchProcess) {
  Child child;
  const pid_t gone = child.pid();
  child.end();
  const auto memory = ProcessMemory::create(gone, {{GuestPhysAddr(0), kMiB, HostAddr(0x10000)}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::io);
  EXPECT_THAT(memory.error().what, HasSubstr("ended"));
}

TEST(ProcessMemory, SaysWhatHelpsWhenTheHostRefuses) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root, to become another user";
  }
  const Child target;
  // Another user may not look at a process of root's.
  const Child stranger([&] {
    if (::setresuid(65534, 65534, 65534) != 0) {
      ::_exit(1);
    }
    const auto memory =
        ProcessMemory::create(target.pid(), {{GuestPhysAddr(0), kMiB, HostAddr(0x10000)}});
    if (memory || memory.error().code != Errc::permission ||
        memory.error().what.find("CAP_SYS_PTRACE") == std::string::npos) {
      ::_exit(1);  // the test then sees the end of the pipe
    }
  });
}

TEST(ProcessMemory, RefusesARegionThatIsNotPageAlignedInTheProcess) {
  const auto memory =
      ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, HostAddr(0x10800)}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::out_of_range);
}

std::string write_text(GuestMemory& memory, std::uint64_t address, std::string_view text) {
  const auto done = memory.write(GuestPhysAddr(address), std::as_bytes(std::span(text)));
  return done ? "done" : std::string(to_string(done.error().code));
}

TEST(ProcessMemory, WritesAnotherProcessesMemory) {
  const Ram ram(2 * kMiB);
  ram.put(0x1ffe, "abcd");
  const Child child;
  auto memory =
      ProcessMemory::create(child.pid(), {{GuestPhysAddr(4 * kGiB), 2 * kMiB, ram.at(0)}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(write_text(*memory, 4 * kGiB + 0x1fff, "12"), "done");
  EXPECT_EQ(text_at(*memory, 4 * kGiB + 0x1ffe, 4), "a12d");
  EXPECT_EQ(std::memcmp(ram.bytes(0x1ffe), "abcd", 4), 0);  // the child's own copy was written
}

TEST(ProcessMemory, WritesAcrossAdjoiningRegionsThatLieApartInTheProcess) {
  const Ram ram(4 * kMiB);
  ram.put(3 * kMiB - 2, "..");
  ram.put(0, "..");
  auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(2 * kMiB)},
                                                   {GuestPhysAddr(kMiB), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, kMiB - 2, "abcd"), "done");
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), "abcd");
}

TEST(ProcessMemory, WritesNothingWhereAPageIsMissing) {
  const Ram ram(kMiB);
  ram.put(0x3000, std::string(0x1000, 'a'));
  auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x5000, "x"), "out-of-range");
  EXPECT_EQ(write_text(*memory, 0x3fff, "xy"), "out-of-range");
  EXPECT_EQ(write_text(*memory, kMiB, "x"), "out-of-range");
  EXPECT_EQ(text_at(*memory, 0x3fff, 1), "a");
  const auto data = memory->next_populated(GuestPhysAddr(0));
  ASSERT_TRUE(data && *data);
  EXPECT_EQ(**data, PhysRange::between(GuestPhysAddr(0x3000), GuestPhysAddr(0x4000)));
  EXPECT_FALSE(memory->next_populated(GuestPhysAddr(0x4000))->has_value());
}

TEST(ProcessMemory, SeesAPageThatCameAfterARefusedWrite) {
  const Ram ram(kMiB);
  auto memory = ProcessMemory::create(::getpid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x3000, "x"), "out-of-range");
  ram.put(0x3000, "data");
  EXPECT_EQ(write_text(*memory, 0x3000, "x"), "done");
  EXPECT_EQ(text_at(*memory, 0x3000, 4), "xata");
}

TEST(ProcessMemory, WritesNothingOnceTheProcessHasEnded) {
  const Ram ram(kMiB);
  ram.put(0, "data");
  Child child;
  auto memory = ProcessMemory::create(child.pid(), {{GuestPhysAddr(0), kMiB, ram.at(0)}});
  ASSERT_TRUE(memory);
  child.end();
  EXPECT_EQ(write_text(*memory, 0, "x"), "io");
}

}  // namespace
}  // namespace vpatch::introspect

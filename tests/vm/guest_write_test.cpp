// SPDX-License-Identifier: Apache-2.0
// What the host writes into a running guest's memory, the guest sees, and only where its kernel may
// write too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "introspect/memory/virtual_memory.h"
#include "tests/vm/introspect_support.h"

namespace vpatch::test {
namespace {

using introspect::GuestVirtAddr;
using testing::HasSubstr;
using testing::StartsWith;

class GuestWriteTest : public testing::TestWithParam<bool> {
 protected:
  static GuestVirtAddr address_of(const LibraryView& view, std::string_view name) {
    const auto found = view.kernel().names().address_of(name);
    EXPECT_TRUE(found.has_value()) << name;
    return found.value_or(GuestVirtAddr());
  }
};

TEST_P(GuestWriteTest, IsSeenByTheGuestAndRespectsItsPageTables) {
  const bool shared = GetParam();
  const TestVm vm(
      shared ? "guest-write-shared" : "guest-write-private",
      shared ? std::vector<std::string>{} : std::vector<std::string>{"--private-memory"});
  ASSERT_EQ(vm.guest("cat /proc/sys/kernel/panic_on_oops"), "0\n");
  const std::int32_t value = 1;
  const auto bytes = std::as_bytes(std::span(&value, 1));
  {
    LibraryView view(vm);  // holds the monitor, which serves one client
    EXPECT_EQ(view.view().backend(), shared ? MemoryBackend::mapped : MemoryBackend::process);
    const auto done = view.view().write(address_of(view, "panic_on_oops"), bytes);
    ASSERT_TRUE(done.has_value()) << done.error().what;

    const GuestVirtAddr banner = address_of(view, "linux_banner");
    const auto refused = view.view().write(banner, bytes);
    ASSERT_FALSE(refused.has_value());
    EXPECT_THAT(refused.error().what, HasSubstr("read-only"));
    const auto text = introspect::read_text(view.kernel().memory(), banner, 200);
    EXPECT_THAT(text.value_or(""), StartsWith("Linux version"));
  }
  EXPECT_EQ(vm.guest("cat /proc/sys/kernel/panic_on_oops"), "1\n");
  EXPECT_EQ(vm.trouble(), "");
}

INSTANTIATE_TEST_SUITE_P(Memory, GuestWriteTest, testing::Bool(), [](const auto& one) {
  return std::string(one.param ? "Shared" : "Private");
});

}  // namespace
}  // namespace vpatch::test

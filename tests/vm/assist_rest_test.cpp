// SPDX-License-Identifier: Apache-2.0
// A guest at rest: the module vpatch_guest costs it nothing.
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "introspect/guest/mailbox.h"
#include "introspect/kernel/modules.h"
#include "tests/vm/assist_fixture.h"

namespace vpatch::test {
namespace {

/// The mailbox as guest memory holds it: the guest takes no part in the look.
introspect::MailboxView read_mailbox_of(LibraryView& view) {
  const introspect::GuestKernel& kernel = view.kernel();
  const auto modules = introspect::read_modules(kernel.memory(), kernel.layouts().modules);
  const auto address =
      modules ? introspect::find_mailbox(kernel, *modules) : std::unexpected(modules.error());
  auto mailbox = address ? introspect::read_mailbox(kernel.memory(), *address)
                         : std::unexpected(address.error());
  if (!mailbox) {
    throw std::runtime_error(mailbox.error().what);
  }
  return *std::move(mailbox);
}

class AssistRest : public AssistTest {
 protected:
  static void expect_neither_timer_nor_thread() {
    EXPECT_EQ(vm().guest("grep -c vpatch /proc/timer_list || true"), "0\n");
    EXPECT_EQ(vm().guest("grep -l vpatch /proc/[0-9]*/comm | while read f; do "
                         "[ $(cat $f) = vpatch-agent ] || echo $f; done"),
              "");
  }
};

TEST_F(AssistRest, ModuleWakesUpNobody) {
  const std::chrono::seconds watched(count_from_environment("VPATCH_REST_SECONDS", 10));
  ASSERT_EQ(apply({}).exit_code, 0);  // it has looked and helped before
  ASSERT_GT(std::stol(shown("wakeups")), 0);
  ASSERT_TRUE(eventually([] {
    const std::string wakeups = shown("wakeups");
    return vm().guest("sleep 1; cat /sys/kernel/vpatch/wakeups") == wakeups + "\n";
  }));
  const std::string wakeups = shown("wakeups");
  expect_neither_timer_nor_thread();

  {
    LibraryView view(vm());
    const auto before = read_mailbox_of(view);
    EXPECT_FALSE(before.watching);
    EXPECT_EQ(std::to_string(before.wakeups), wakeups);
    std::this_thread::sleep_for(watched);  // that nothing happens has no event
    const auto after = read_mailbox_of(view);
    EXPECT_FALSE(after.watching);
    EXPECT_EQ(after.wakeups, before.wakeups);
    EXPECT_EQ(after.events, before.events);
    fmt::print("rest on {}: {} wake-ups in {} s\n", kernel(), after.wakeups - before.wakeups,
               watched.count());
  }
  EXPECT_EQ(shown("wakeups"), wakeups);
  expect_neither_timer_nor_thread();
}

}  // namespace
}  // namespace vpatch::test

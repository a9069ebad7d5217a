// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/trouble.h"

#include <gtest/gtest.h>

namespace vpatch::introspect {
namespace {

class Trouble : public ::testing::TestWithParam<const char*> {};
class NoTrouble : public ::testing::TestWithParam<const char*> {};

TEST_P(Trouble, IsSeen) {
  EXPECT_TRUE(is_trouble(GetParam()));
}
TEST_P(NoTrouble, IsNotSeen) {
  EXPECT_FALSE(is_trouble(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(
    All, Trouble,
    ::testing::Values("BUG: kernel NULL pointer dereference, address: 0000000000000000",
                      "------------[ cut here ]------------",
                      "WARNING: CPU: 0 PID: 1 at kernel/module/main.c:12 f+0x1/0x2",
                      "WARNING: possible circular locking dependency detected",
                      "Oops: 0002 [#1] PREEMPT SMP PTI", "Call Trace:",
                      "general protection fault, maybe for address 0x1: 0000 [#1] SMP",
                      "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]",
                      "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
                      "INFO: task sh:12 blocked for more than 120 seconds.",
                      "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                      "Kernel panic - not syncing: Fatal exception", "kernel BUG at mm/slub.c:1!",
                      "a harmless line\nBUG: and one that is not", "DEBUG: x BUG: y"));

INSTANTIATE_TEST_SUITE_P(
    All, NoTrouble,
    ::testing::Values("", "driver: DEBUG: all is well", "HYPERBUG: none",
                      "vpatch_demo: tainting kernel with TAINT_LIVEPATCH",
                      "livepatch: 'vpatch_demo_v1': patching complete",
                      "WARNING: this is a driver's way to say hello",
                      "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on"));

}  // namespace
}  // namespace vpatch::introspect

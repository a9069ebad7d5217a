// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

/// Kernel memory in use that a leak would grow, in KiB: slab, vmalloc and page tables.
long kernel_memory_kib(const TestVm& vm) {
  return std::stol(
      vm.guest("sync; echo 3 >/proc/sys/vm/drop_caches; "
               "awk '/^(SUnreclaim|VmallocUsed|PageTables|KernelStack):/ {sum += $2} END {print "
               "sum}' /proc/meminfo"));
}

TEST(Rounds, TwentyAppliesAndRevertsLeaveNothingBehind) {
  TestVm& vm = shared_vm();
  const std::string patch = module_path("vpatch_demo_v1");
  const std::string before = vm.fingerprint();
  long settled = 0;
  for (int round = 1; round <= 20; ++round) {
    const ProcessResult applied = vm.vpatch("apply", {patch});
    ASSERT_EQ(applied.exit_code, 0) << "round " << round << "\n" << applied;
    const ProcessResult reverted = vm.vpatch("revert");
    ASSERT_EQ(reverted.exit_code, 0) << "round " << round << "\n" << reverted;
    if (round == 4) {
      settled = kernel_memory_kib(vm);  // caches of first use are filled
    }
  }
  const long after = kernel_memory_kib(vm);
  fmt::print("rounds: 20 on {} {}; kernel memory after 4 rounds {} KiB, after 20 {} KiB\n",
             backend(), kernel(), settled, after);
  EXPECT_EQ(vm.fingerprint(), before);
  EXPECT_EQ(vm.trouble(), "");
  // The module's own pages are 40 KiB and more: sixteen leaked ones would show.
  EXPECT_LT(after - settled, 512) << "kernel memory grew over 16 rounds";
}

}  // namespace
}  // namespace vpatch::test

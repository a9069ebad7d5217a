// SPDX-License-Identifier: Apache-2.0
// What vpatch adds to the kernel's own work: the same livepatch loaded and removed by a bare
// insmod, `echo 0` and rmmod in the guest, and by vpatch apply and revert, turn about on one VM in
// one run.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/vm/test_vm.h"

namespace {

using vpatch::test::TestVm;
using Milliseconds = std::chrono::duration<double, std::milli>;

template <class Action>
double time_of(const Action& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return Milliseconds(std::chrono::steady_clock::now() - start).count();
}

void must(const vpatch::test::ProcessResult& result) {
  if (result.exit_code != 0) {
    throw std::runtime_error(result.out + result.err);
  }
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// One agent call: what a shell loop around virsh would run.
constexpr const char* kBareRound =
    "s=/sys/kernel/livepatch/vpatch_demo_v1; insmod /run/bench.ko || exit 1; "
    "while [ \"$(cat $s/transition)\" = 1 ]; do :; done; echo 0 >$s/enabled; while [ -e $s ]; do "
    ":; done; "
    "until rmmod vpatch_demo_v1 2>/dev/null; do :; done";

void measure(const std::string& kernel, int rounds) {
  const TestVm vm("vpatch-bench-" + kernel);
  const std::string patch = vpatch::test::module_path("vpatch_demo_v1");
  must(vm.vpatch("apply", {patch}));
  must(vm.vpatch("revert"));
  std::vector<double> bare;
  std::vector<double> full;
  vm.deliver(patch, "/run/bench.ko");
  for (int round = 0; round < rounds; ++round) {
    bare.push_back(time_of([&] { vm.guest(kBareRound); }));
    full.push_back(time_of([&] {
      must(vm.vpatch("apply", {patch}));
      must(vm.vpatch("revert"));
    }));
  }
  fmt::print(
      "{:<6} {:>3} rounds   bare median {:7.0f} ms, max {:7.0f} ms   vpatch median {:7.0f} ms, max "
      "{:7.0f} ms   ratio {:.2f}\n",
      kernel, rounds, median(bare), *std::ranges::max_element(bare), median(full),
      *std::ranges::max_element(full), median(full) / median(bare));
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds =
      argc > 1 ? std::max(1, std::atoi(argv[1])) : 10;  // NOLINT(cert-err34-c): clamped
  for (const char* kernel : {"6.1", "6.12"}) {
    setenv("VPATCH_VM_KERNEL", kernel, 1);      // NOLINT(concurrency-mt-unsafe): one thread
    setenv("VPATCH_VM_BACKEND", "libvirt", 1);  // NOLINT(concurrency-mt-unsafe)
    measure(kernel, rounds);
  }
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tests/bench/bench_guest.h"
#include "tests/bench/summary.h"

namespace vpatch::bench {

/// Walks all stacks of one core of `guest`, each frame named, first here and then with drgn and the
/// kernel's debug information at `vmlinux`: the figures of both and their ratio.
std::vector<Figure> race_drgn(const BenchGuest& guest, const std::string& kernel,
                              const std::string& vmlinux);

}  // namespace vpatch::bench

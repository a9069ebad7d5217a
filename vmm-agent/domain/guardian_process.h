// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vpatch {

/// The hidden first argument with which the program is a guardian. The others are the limit in
/// milliseconds, and the target's URI, domain and monitor path.
inline constexpr const char* kGuardianVerb = "guardian";

/// The descriptors it starts with: the socketpair, and a pidfd of the process it guards.
inline constexpr int kGuardianSocket = 3;
inline constexpr int kGuardianParent = 4;

/// The guardian's main(): what Guardian::start() calls for. Returns the exit code.
int run_guardian(int argc, char** argv);

}  // namespace vpatch

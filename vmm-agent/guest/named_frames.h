// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"

namespace vpatch {

/// One frame of a stack, named.
struct NamedFrame {
  std::uint64_t address = 0;
  std::string text;      ///< "function+0x1/0x2 [module]", or the address where no symbol is known
  std::string function;  ///< empty where none is known
  std::string module;    ///< empty for the core kernel
  std::uint64_t offset = 0, size = 0;  ///< bytes
  bool exact = false;  ///< an interrupted or running instruction, not a return address
};

/// Why a blocker blocks, for people: "cmdline_proc_show is on its stack".
std::string describe(const introspect::Blocker& blocker, const introspect::TaskStack& stack,
                     const std::vector<introspect::ForbiddenFunction>& forbidden);

/// The frames of a stack by name; without the scheduler's own unless `scheduler_frames`.
std::vector<NamedFrame> name_frames(const introspect::TaskStack& stack,
                                    const introspect::Symbolizer& symbols, bool scheduler_frames);

/// Their texts alone.
std::vector<std::string> texts_of(std::vector<NamedFrame> frames);

}  // namespace vpatch

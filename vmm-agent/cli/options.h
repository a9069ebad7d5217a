// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "vmm-agent/domain/domain.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/revert.h"

namespace vpatch {

enum class Verb : std::uint8_t { none, inspect, apply, status, revert, doctor };

/// The command line, taken apart and checked.
struct Options {
  Verb verb = Verb::none;
  Target target;
  bool json = false;
  bool no_color = false;
  bool verbose = false;
  std::chrono::milliseconds agent_timeout{20'000};
  std::string file;  ///< of inspect and apply
  ApplyOptions apply;
  RevertOptions revert;
  int exit_code =
      0;  ///< when verb is none: help or version was printed (0), or the usage was wrong (2)
};

/// Parses the command line. Prints help and usage errors itself; the verb is then Verb::none.
Options parse_command_line(int argc, char** argv);

}  // namespace vpatch

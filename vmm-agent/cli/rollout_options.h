// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "vmm-agent/rollout/plan_flags.h"

namespace CLI {
class App;
}

namespace vpatch {

enum class RolloutVerb : std::uint8_t {
  none,
  start,
  status,
  pause,
  resume,
  abort,
  rollback,
  report,
  list
};

/// The command line of `vpatch rollout`.
struct RolloutOptions {
  RolloutVerb verb = RolloutVerb::none;
  std::string plan;          ///< of start: a file, - for standard input, or empty
  rollout::PlanFlags flags;  ///< of start
  bool dry_run = false;      ///< of start
  bool skip_unreachable = false;
  std::string name;    ///< of all others but list; empty: the one that has not finished
  std::string why;     ///< of pause, resume, abort and rollback, for the record
  std::string output;  ///< of report: where the page goes; empty: NAME.html
};

struct Options;

void add_rollout(CLI::App& app, Options& options);

}  // namespace vpatch

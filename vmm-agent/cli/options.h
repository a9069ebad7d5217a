// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm-agent/assist/policy.h"
#include "vmm-agent/cli/history.h"
#include "vmm-agent/cli/rollout_options.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/domain_groups.h"
#include "vmm-agent/exporter/listen_address.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/force.h"
#include "vmm-agent/operation/health.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/revert.h"

namespace vpatch {

enum class Verb : std::uint8_t {
  none,
  inspect,
  apply,
  status,
  stacks,
  log,
  revert,
  force,
  ensure,
  history,
  doctor,
  health,
  serve,
  rollout,
  group,
  exporter
};

/// What is asked of a file's signature, on top of the policy file.
struct SignatureOptions {
  bool required = false;
  std::vector<std::string> certificates;
  std::string policy;  ///< instead of the usual policy file; empty for that one
};

struct ExporterCommand {
  exporter::ListenAddress listen;
  std::vector<std::string> connections{"qemu:///system"};  ///< each once
  std::chrono::milliseconds interval{30'000};
};

/// The command line, taken apart and checked.
struct Options {
  Verb verb = Verb::none;
  Target target;
  bool json = false;
  bool no_color = false;
  bool verbose = false;
  bool progress = false;  ///< of apply, revert, ensure: how it goes, in lines for a program
  std::chrono::milliseconds agent_timeout{20'000};
  std::string file;  ///< of inspect, apply and ensure --register
  SignatureOptions signature;
  ApplyOptions apply;
  RevertOptions revert;
  std::string revert_to;          ///< of revert: a cumulative livepatch file
  bool replace_with_nop = false;  ///< of revert
  std::string nop;                ///< of revert: the file of the empty livepatch
  ForceOptions force;
  std::string force_confirmation;  ///< of force: the domain's name
  AssistOptions assist;
  std::string core;               ///< an ELF core file instead of a VM, for verbs that only look
  std::string blocking;           ///< of stacks: a livepatch file
  bool ask_agent = false;         ///< of status: ask the guest agent, not the guest's memory
  bool watch = false;             ///< of status
  bool paused = false;            ///< of stacks and status: one pause around the look
  std::string task;               ///< of stacks
  bool scheduler_frames = false;  ///< of stacks
  LogOptions log;
  bool persist = false;                      ///< of apply and revert --to: register the livepatch
  bool all = false;                          ///< of ensure: every domain of the connection
  bool retry_failed = false;                 ///< of ensure
  std::string forget;                        ///< of ensure: end this livepatch's registration
  std::chrono::milliseconds settle{10'000};  ///< of ensure, and with --persist
  HistoryOptions history;
  RolloutOptions rollout;
  HealthOptions health;
  bool stdio = false;  ///< of serve
  bool list = false;   ///< of serve: print the domains; of ensure: the registrations
  GroupChange groups;  ///< of group
  ExporterCommand exporter;
  std::string version;  ///< of this program
  int exit_code =
      0;  ///< when verb is none: help or version was printed (0), or the usage was wrong (2)
};

/// Parses the command line. Prints help and usage errors itself; the verb is then Verb::none.
Options parse_command_line(int argc, char** argv);

}  // namespace vpatch

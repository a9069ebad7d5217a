// SPDX-License-Identifier: Apache-2.0
// From a plan to a rollout that can begin: which domains there are, and what each gets.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/rollout/selection.h"

namespace vpatch::fleet {

struct GatherOptions {
  std::string vpatch{};           ///< this program's path
  std::string version{};          ///< of it
  std::string seed{};             ///< of the order of domains
  bool skip_unreachable = false;  ///< go on without hosts that do not answer
  std::stop_token stop{};
  std::function<void(const std::string&)> progress{};
};

struct Gathered {
  NewRollout rollout{};
  std::vector<LivepatchFile> files{};   ///< of rollout.files
  std::vector<std::string> warnings{};  ///< hosts left out, and domains not chosen
};

/// Reads the files, asks each connection for its domains, and orders them. Outcome::unreachable
/// names each host that does not answer; Outcome::refused when a file is none for the kernel it is
/// planned for, or no domain is chosen at all.
Result<Gathered> gather(const rollout::Plan& plan, const GatherOptions& options);

/// A domain as `serve`'s `list` shows it, and the last kernel it is known to have run.
struct ListedDomain {
  rollout::Target target{};
  std::string last_release{};
};

/// Of an untrusted report: what is no domain is left out.
std::vector<ListedDomain> domains_of(const boost::json::object& report,
                                     const std::string& connection);

/// The same without asking anybody: the part of gather() that decides.
Result<Gathered> arrange(const rollout::Plan& plan, std::vector<LivepatchFile> files,
                         const std::vector<ListedDomain>& domains, const GatherOptions& options);

}  // namespace vpatch::fleet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <boost/json/object.hpp>

#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/guest/agent_guest.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// A VM that runs and whose agent can be spoken to.
struct Session {
  std::unique_ptr<Domain> domain;
  std::unique_ptr<AgentGuest> guest;
};

/// One run of the program: what was asked of it, and how its verb prints. Made before any other
/// thread, for the Interrupt in it.
class Program {
 public:
  explicit Program(const Options& asked);

  qmp::CallOptions call_options() const;
  /// To the domain of the options.
  Result<Session> attach();
  Context context(const Session& session, Reporter& listener);
  /// Where a registered domain is found again.
  std::string connection() const;

  // Results, in the form that was asked for. What returns an outcome returns the exit code.
  Outcome print_error(const Error& error, const std::string& verb);
  /// `unrecorded`: why the journal does not hold all of it.
  Outcome print_report(const Report& report, const std::string& verb, const std::string& domain,
                       const std::optional<Error>& unrecorded = {});
  void print(const boost::json::object& json, const std::string& text) const;
  static void print_json(const boost::json::object& object);

  Options options;
  Interrupt interrupt;
  Style out;
  Style err;
  SteadyClock clock;
  BootCache cache;
  TerminalReporter reporter;
};

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// The vpatch program: the only place that prints and picks the exit code.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/guest/agent_guest.h"

namespace vpatch {
namespace {

/// One run of the program.
class Program {
 public:
  explicit Program(const Options& options)
      : options_(options),
        out_(!options.no_color && wants_color(stdout)),
        err_(!options.no_color && wants_color(stderr)),
        reporter_(err_, is_live(stderr), options.json) {}

  Outcome run() {
    switch (options_.verb) {
      case Verb::inspect:
        return inspect();
      case Verb::apply:
        return apply_file();
      case Verb::status:
        return status();
      case Verb::revert:
        return revert_patch();
      case Verb::doctor:
        return doctor();
      case Verb::none:
        break;
    }
    return Outcome::usage;
  }

 private:
  /// A VM that runs and whose agent can be spoken to.
  struct Session {
    std::unique_ptr<Domain> domain;
    std::unique_ptr<AgentGuest> guest;
  };

  qmp::CallOptions call_options() const { return {options_.agent_timeout, interrupt_.token()}; }

  Result<Session> attach() {
    reporter_.progress("attaching to the domain");
    Session session;
    auto domain = open_domain(options_.target, call_options());
    if (!domain) {
      return std::unexpected(domain.error());
    }
    session.domain = *std::move(domain);
    const std::string& name = session.domain->name();
    auto state = session.domain->run_state(call_options());
    if (!state) {
      return std::unexpected(std::move(state.error()).in_context(name));
    }
    if (*state != RunState::running) {
      return fail(
          Outcome::unreachable, fmt::format("{} is {}", name, to_string(*state)),
          "Only a running VM can be looked into: start or resume it (virsh start, virsh resume).");
    }
    auto channel = session.domain->agent(call_options());
    if (!channel) {
      return std::unexpected(std::move(channel.error()).in_context(name));
    }
    session.guest = std::make_unique<AgentGuest>(**channel);
    return session;
  }

  Context context(const Session& session) {
    return {session.domain->name(), *session.guest,        reporter_, clock_,
            interrupt_.token(),     options_.agent_timeout};
  }

  Outcome print_error(const Error& error, const std::string& verb) {
    reporter_.finish();
    if (options_.json) {
      print_json(to_json(error, verb));
    } else {
      write_text(stderr, render(error, err_));
    }
    return error.outcome;
  }

  static void print_json(const boost::json::object& object) {
    write_text(stdout, boost::json::serialize(object) + "\n");
  }

  Outcome print_report(const Report& report, const std::string& verb, const std::string& domain) {
    if (options_.json) {
      print_json(to_json(report, verb, domain));
    } else if (report.outcome == Outcome::done) {
      write_text(stdout, render(report, out_, options_.verbose));
    } else {
      write_text(stderr, render(report, err_, options_.verbose));
    }
    return report.outcome;
  }

  Outcome inspect() {
    auto file = read_livepatch(options_.file);
    if (!file) {
      return print_error(file.error(), "inspect");
    }
    if (options_.json) {
      print_json(to_json(*file));
    } else {
      write_text(stdout, render(*file));
    }
    return Outcome::done;
  }

  /// Attaches, takes the domain's lock and runs `operation(context)`.
  template <class Operation>
  Outcome change(const std::string& verb, const std::string& what, const Operation& operation) {
    auto session = attach();
    if (!session) {
      return print_error(session.error(), verb);
    }
    const Domain& domain = *session->domain;
    auto lock = DomainLock::acquire(domain.identity(), domain.name(), what);
    if (!lock) {
      return print_error(lock.error(), verb);
    }
    Context environment = context(*session);
    const Report report = operation(environment);
    reporter_.finish();
    return print_report(report, verb, domain.name());
  }

  Outcome apply_file() {
    auto file = read_livepatch(options_.file);
    if (!file) {
      return print_error(file.error(), "apply");
    }
    return change("apply", "apply " + file->name,
                  [&](Context& environment) { return apply(environment, *file, options_.apply); });
  }

  Outcome revert_patch() {
    return change("revert", "revert " + options_.revert.patch,
                  [&](Context& environment) { return revert(environment, options_.revert); });
  }

  Outcome status() {
    auto session = attach();
    if (!session) {
      return print_error(session.error(), "status");
    }
    Context environment = context(*session);
    auto found = read_status(environment);
    reporter_.finish();
    const std::string& name = session->domain->name();
    if (!found) {
      return print_error(std::move(found.error()).in_context(name), "status");
    }
    if (options_.json) {
      print_json(to_json(*found, name));
    } else {
      write_text(stdout, render(*found, name, out_));
    }
    return Outcome::done;
  }

  Outcome doctor() {
    reporter_.progress("checking");
    const auto checks = diagnose(options_.target, call_options());
    reporter_.finish();
    if (options_.json) {
      print_json(to_json(checks));
    } else {
      write_text(stdout, render(checks, out_));
    }
    const bool usable = std::ranges::none_of(
        checks, [](const Check& check) { return check.health == Health::failed; });
    return usable ? Outcome::done : Outcome::unreachable;
  }

  const Options& options_;
  Interrupt interrupt_;
  Style out_;
  Style err_;
  SteadyClock clock_;
  TerminalReporter reporter_;
};

/// A stream that was closed by the caller must not become the number of a socket of ours.
void open_standard_streams() {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd > STDERR_FILENO) {
      close(fd);
      break;
    }
  }
}

}  // namespace
}  // namespace vpatch

int main(int argc, char** argv) {
  try {
    vpatch::open_standard_streams();
    const vpatch::Options options = vpatch::parse_command_line(argc, argv);
    if (options.verb == vpatch::Verb::none) {
      return options.exit_code;
    }
    const vpatch::Outcome outcome = vpatch::Program(options).run();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      vpatch::write_text(stderr,
                         "warning: the output could not be written; the exit code is right\n");
    }
    return static_cast<int>(outcome);
  } catch (const std::exception& error) {
    vpatch::write_text(stderr, std::string("error: a bug of vpatch: ") + error.what() + "\n");
    return static_cast<int>(vpatch::Outcome::internal);
  }
}

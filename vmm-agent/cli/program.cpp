// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/program.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/render.h"

namespace vpatch {

Program::Program(const Options& asked)
    : options(asked),
      out(!asked.no_color && wants_color(stdout)),
      err(!asked.no_color && wants_color(stderr)),
      reporter(err, is_live(stderr),
               asked.progress ? Telling::lines
               : asked.json   ? Telling::nothing
                              : Telling::text) {}

qmp::CallOptions Program::call_options() const {
  return {options.agent_timeout, interrupt.token()};
}

Result<Session> Program::attach() {
  reporter.progress("attaching to the domain");
  Session session;
  auto domain = open_domain(options.target, call_options());
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
  session.guest = std::make_unique<AgentGuest>(
      **channel, options.assist.mode == AssistMode::off ? Urgency::ordinary : Urgency::highest);
  return session;
}

Context Program::context(const Session& session, Reporter& listener) {
  return {session.domain->name(), *session.guest,       listener, clock,
          interrupt.token(),      options.agent_timeout};
}

std::string Program::connection() const {
  const Target& target = options.target;
  return target.is_libvirt() ? target.uri : std::filesystem::absolute(target.qmp).string();
}

Outcome Program::print_error(const Error& error, const std::string& verb) {
  reporter.finish();
  if (options.json) {
    print_json(to_json(error, verb));
  } else {
    write_text(stderr, render(error, err));
  }
  return error.outcome;
}

Outcome Program::print_report(const Report& report, const std::string& verb,
                              const std::string& domain, const std::optional<Error>& unrecorded) {
  reporter.finish();
  const Outcome exit_code =
      report.outcome == Outcome::done && unrecorded ? Outcome::unrecorded : report.outcome;
  if (options.json) {
    boost::json::object object = to_json(report, verb, domain);
    object["exit_code"] = static_cast<int>(exit_code);
    object["journal_error"] = unrecorded ? boost::json::value(unrecorded->what) : nullptr;
    print_json(object);
  } else if (report.outcome == Outcome::done) {
    write_text(stdout, render(report, out, options.verbose));
  } else {
    write_text(stderr, render(report, err, options.verbose));
  }
  return exit_code;
}

void Program::print(const boost::json::object& json, const std::string& text) const {
  if (options.json) {
    print_json(json);
  } else {
    write_text(stdout, text);
  }
}

void Program::print_json(const boost::json::object& object) {
  write_text(stdout, boost::json::serialize(object) + "\n");
}

}  // namespace vpatch

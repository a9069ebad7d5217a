// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/domain/pause.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/status.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kWatchEach{500};

Result<GuestView> open_view(Program& program, std::unique_ptr<Domain>& domain) {
  if (!program.options.core.empty()) {
    return GuestView::open_core(program.options.core);
  }
  auto opened = open_domain(program.options.target, program.call_options());
  if (!opened) {
    return std::unexpected(opened.error());
  }
  domain = *std::move(opened);
  return GuestView::open(*domain, program.cache, program.call_options());
}

Result<void> print_log(Program& program, GuestView& view) {
  program.reporter.finish();
  return read_log(view, program.options.log, program.clock, program.call_options(),
                  [&](const introspect::KernelLog& log) {
                    program.print(to_json(log, view.name()), render(log, program.out));
                    // Nobody reads any more: `vpatch log -f | head` ends.
                    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
                  });
}

Result<void> print_stacks(Program& program, GuestView& view, Domain* domain) {
  std::optional<LivepatchFile> file;
  if (!program.options.blocking.empty()) {
    auto read = read_livepatch(program.options.blocking);
    if (!read) {
      return std::unexpected(read.error());
    }
    file = *std::move(read);
  }
  const StacksOptions how{.task = program.options.task,
                          .blocking = file ? &*file : nullptr,
                          .paused = program.options.paused,
                          .scheduler_frames = program.options.scheduler_frames};
  auto report = read_stacks(view, domain, program.options.target, how, program.call_options());
  if (!report) {
    return std::unexpected(report.error());
  }
  program.reporter.finish();
  program.print(to_json(*report, view.name()), render(*report, program.out, file.has_value()));
  return {};
}

Result<Status> paused_status(Program& program, GuestView& view, Domain* domain) {
  if (!program.options.paused || domain == nullptr) {
    return read_status(view, view.is_still(), program.call_options());
  }
  auto pause = Pause::take(*domain, program.options.target, kLookPause, program.call_options());
  if (!pause) {
    return std::unexpected(pause.error());
  }
  auto found = read_status(view, true, program.call_options());
  if (found && !pause->still_holds(program.call_options())) {
    found = fail(Outcome::unreachable, "the VM ran on during the look: the pause took too long",
                 "Try again when the host is less busy, or without --paused.");
  }
  if (const auto resumed = pause->resume(); !resumed) {
    return std::unexpected(resumed.error());
  }
  return found;
}

Result<void> print_status(Program& program, GuestView& view, Domain* domain) {
  const bool live = program.options.watch && is_live(stdout) && !program.options.json;
  for (;;) {
    auto found = paused_status(program, view, domain);
    if (!found) {
      return std::unexpected(found.error());
    }
    program.reporter.finish();
    if (live) {
      write_text(stdout, "\033[H\033[2J");
    }
    program.print(to_json(*found, view.name()), render(*found, view.name(), program.out));
    static_cast<void>(std::fflush(stdout));
    if (!program.options.watch || view.is_still()) {
      return {};
    }
    program.clock.wait(kWatchEach, program.interrupt.token());
    if (program.interrupt.token().stop_requested() || std::ferror(stdout) != 0) {
      return {};
    }
    if (auto done = view.refresh(program.call_options()); !done) {
      return done;
    }
  }
}

Outcome status_of_agent(Program& program) {
  auto session = program.attach();
  if (!session) {
    return program.print_error(session.error(), "status");
  }
  Context environment = program.context(*session, program.reporter);
  auto found = ask_status(environment);
  program.reporter.finish();
  const std::string& name = session->domain->name();
  if (!found) {
    return program.print_error(std::move(found.error()).in_context(name), "status");
  }
  program.print(to_json(*found, name), render(*found, name, program.out));
  return Outcome::done;
}

/// Runs a verb that reads the guest's memory and changes nothing.
Outcome look(Program& program, const std::string& verb) {
  program.reporter.progress("reading the guest's memory");
  std::unique_ptr<Domain> domain;
  auto view = open_view(program, domain);
  if (!view) {
    return program.print_error(view.error(), verb);
  }
  Result<void> done;
  switch (program.options.verb) {
    case Verb::log:
      view->let_go_of_domain();
      domain.reset();
      done = print_log(program, *view);
      break;
    case Verb::stacks:
      done = print_stacks(program, *view, domain.get());
      break;
    default:
      done = print_status(program, *view, domain.get());
      break;
  }
  view->keep(program.cache);
  return done ? Outcome::done : program.print_error(done.error(), verb);
}

}  // namespace

Outcome run_status(Program& program) {
  return program.options.ask_agent ? status_of_agent(program) : look(program, "status");
}

Outcome run_stacks(Program& program) {
  return look(program, "stacks");
}

Outcome run_log(Program& program) {
  return look(program, "log");
}

}  // namespace vpatch

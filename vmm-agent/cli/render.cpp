// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/render.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vpatch {
namespace {

void line(std::string& out, std::string_view key, std::string_view value) {
  if (!value.empty()) {
    fmt::format_to(std::back_inserter(out), "{:<12} {}\n", key, value);
  }
}

void append_contents(std::string& out, const PatchContents& contents) {
  line(out, "kind",
       !contents.replace   ? "unknown: its code decides whether it is cumulative when it is loaded"
       : *contents.replace ? "cumulative (replace)"
                           : "independent (no replace)");
  for (const PatchState& state : contents.states) {
    line(out, "state", fmt::format("id {}, version {}", state.id, state.version));
  }
  for (const PatchedObject& object : contents.objects) {
    fmt::format_to(std::back_inserter(out), "{}\n", object.name);
    if (const std::string set = callback_names(object.callbacks); !set.empty()) {
      fmt::format_to(std::back_inserter(out), "  callbacks: {}\n", set);
    }
    for (const PatchedFunction& function : object.functions) {
      const std::string position =
          function.position == 0 ? "" : fmt::format(",{}", function.position);
      fmt::format_to(std::back_inserter(out), "  {}{}{}{}\n", function.name, position,
                     function.replacement.empty() ? "" : " -> ", function.replacement);
    }
  }
}

void append_pending(std::string& out, const PendingTasks& pending) {
  for (const PendingTask& task : pending.first) {
    fmt::format_to(std::back_inserter(out), "  {} ({}) {}{}{}\n", task.name, task.tid, task.state,
                   task.why.empty() ? "" : ": ", task.why);
    for (const std::string& frame : task.stack) {
      fmt::format_to(std::back_inserter(out), "    {}\n", frame);
    }
  }
  if (pending.count > pending.first.size()) {
    fmt::format_to(std::back_inserter(out), "  and {} more\n",
                   pending.count - pending.first.size());
  }
}

/// Who was waited for, where it took long enough to ask; and what was done about it.
void append_transition(std::string& out, const TransitionRecord& record, bool verbose) {
  constexpr std::size_t kShown = 5;
  constexpr std::chrono::milliseconds kLong{100};
  constexpr std::chrono::milliseconds kWorthIt{1};
  for (std::size_t index = 0; index < std::min(kShown, record.pending.first.size()); ++index) {
    const PendingTask& task = record.pending.first[index];
    if (task.pending_for >= (verbose ? kWorthIt : kLong)) {
      fmt::format_to(std::back_inserter(out), "  waited {:.1f} ms for {}\n",
                     std::chrono::duration<double, std::milli>(task.pending_for).count(),
                     describe(task));
    }
  }
  for (const SwitchedTask& task : record.switched) {
    fmt::format_to(std::back_inserter(out), "  moved {} ({}){}{}\n", task.name, task.tid,
                   task.stack.empty() ? "" : " in ", task.stack.empty() ? "" : task.stack.front());
  }
  if (verbose) {
    fmt::format_to(std::back_inserter(out),
                   "  {} retries, {} rescheds, {} signals, {} tasks moved, {} pauses; completing "
                   "took {:.1f} ms\n",
                   record.retries, record.rescheds, record.signals, record.switches, record.pauses,
                   std::chrono::duration<double, std::milli>(record.completing).count());
  }
}

std::string paint(const Style& style, PatchPhase phase) {
  const std::string_view text = to_string(phase);
  return phase == PatchPhase::patched ? style.good(text) : style.doubtful(text);
}

/// In the order in which they took effect; on top of a cumulative one the others are additions.
void append_patches(std::string& out, const Status& status, const Style& style) {
  const GuestState& guest = status.guest;
  std::size_t additions = 0;
  for (const GuestPatch& patch : guest.patches) {
    const std::string_view role = role_of(guest, patch);
    fmt::format_to(std::back_inserter(out), "\n{}: {}{}{}{}\n", patch.name,
                   paint(style, patch.phase()), role.empty() ? "" : ", ", role,
                   role == "addition" && status.ordered ? fmt::format(" {}", ++additions) : "");
    for (const GuestPatchedObject& object : patch.objects) {
      fmt::format_to(std::back_inserter(out), "  {}{}: {}\n", object.name,
                     is_waiting(patch, object) ? " (waiting for the module)" : "",
                     fmt::join(object.functions, " "));
    }
  }
}

}  // namespace

std::string render(const LivepatchFile& file, const SignatureCheck& signature) {
  std::string out;
  line(out, "name", file.name);
  line(out, "version", file.version);
  line(out, "description", file.description);
  line(out, "kernel", file.release);
  line(out, "vermagic", file.vermagic);
  line(out, "build id", file.build_id);
  line(out, "srcversion", file.srcversion);
  line(out, "sha256", file.sha256);
  line(out, "size", fmt::format("{} bytes", file.bytes.size()));
  line(out, "signature",
       signature.state == SignatureState::good ? "good, of " + signature.signer : signature.detail);
  line(out, "depends", fmt::format("{}", fmt::join(file.depends, ", ")));
  if (file.contents) {
    append_contents(out, *file.contents);
    for (const NeededSymbol& symbol : file.symbols) {
      line(out, "needs", fmt::format("{}:{},{}", symbol.object, symbol.name, symbol.position));
    }
  } else {
    line(out, "changes", "unknown: " + file.contents_unknown);
  }
  return out;
}

std::string render(const Status& status, const std::string& domain, const Style& style) {
  std::string out;
  line(out, "domain", domain);
  line(out, "kernel", status.guest.release);
  line(out, "build id", status.build_id);
  line(out, "up", fmt::format("{:.0f} s", status.guest.uptime_seconds));
  line(out, "tainted", status.guest.tainted == 0 ? "no" : taint_letters(status.guest.tainted));
  const auto version = status.guest.guest_module.find("version");
  line(out, "guest module",
       version == status.guest.guest_module.end() ? "not loaded" : version->second);
  if (status.guest.patches.empty()) {
    line(out, "livepatches", status.guest.has_livepatch ? "none" : "not supported by this kernel");
  }
  for (const ForcedPatch& forced : status.forced) {
    line(out, "reboot", style.doubtful("planned: " + describe(forced)));
  }
  for (const RefusedModule& refused : status.refused_modules) {
    line(out, "not loaded",
         fmt::format("module {}: {} could not be applied to it, see `vpatch log`", refused.module,
                     refused.patch));
  }
  append_patches(out, status, style);
  if (const GuestPatch* patch = status.guest.in_transition(); patch != nullptr) {
    fmt::format_to(std::back_inserter(out), "\n{} {}, {} task(s) pending\n",
                   to_string(patch->phase()), patch->name,
                   status.pending ? std::to_string(status.pending->count) : "an unknown number of");
    if (status.transition && status.transition->moved && status.transition->tasks) {
      fmt::format_to(std::back_inserter(out), "  {} of {} tasks have moved\n",
                     *status.transition->moved, *status.transition->tasks);
    }
    append_pending(out, status.pending.value_or(PendingTasks()));
  }
  return out;
}

std::string render(const StacksReport& report, const Style& style, bool against_patch) {
  std::string out;
  for (const NamedStack& stack : report.stacks) {
    const introspect::Task& task = stack.task;
    fmt::format_to(std::back_inserter(out), "{} ({}) {} {}", task.name, task.tid,
                   task.state_letter(), introspect::to_string(stack.activity));
    if (stack.activity != introspect::Activity::asleep) {
      fmt::format_to(std::back_inserter(out), " on CPU {}", task.cpu);
    }
    if (!stack.why.empty()) {
      out += ": " + style.doubtful(stack.why);
    } else if (stack.unreliable != introspect::Unreliable::none) {
      fmt::format_to(
          std::back_inserter(out), " {}",
          style.faint(fmt::format("(not reliable: {})", introspect::describe(stack.unreliable))));
    }
    out += '\n';
    for (const NamedFrame& frame : stack.frames) {
      fmt::format_to(std::back_inserter(out), "  {}\n", frame.text);
    }
  }
  for (const std::string& text : report.unknown) {
    fmt::format_to(std::back_inserter(out), "{} {}\n", style.doubtful("not looked for:"),
                   harmless(text));
  }
  if (report.incomplete) {
    fmt::format_to(std::back_inserter(out), "{} {}\n", style.doubtful("some tasks are missing:"),
                   report.why_incomplete);
  }
  const auto ms = [](std::chrono::microseconds time) {
    return static_cast<double>(time.count()) / 1000;
  };
  if (against_patch) {
    fmt::format_to(
        std::back_inserter(out), "{} of {} tasks would hold the patch up now{}\n",
        report.stacks.size(), report.tasks_seen,
        report.running == 0 ? "" : fmt::format("; {} run, and move by themselves", report.running));
  }
  if (report.pause) {
    fmt::format_to(std::back_inserter(out), "the guest was paused for {:.1f} ms\n",
                   ms(*report.pause));
  }
  return out;
}

std::string render(const introspect::KernelLog& log, const Style& style) {
  std::string out;
  if (log.lost > 0) {
    out += style.doubtful(
        fmt::format("{} record(s) were overwritten before they were read", log.lost));
    out += '\n';
  }
  for (const introspect::LogRecord& record : log.records) {
    const std::string lines = log_lines(record);
    out += record.level <= 3 ? style.bad(lines) : lines;
  }
  return out;
}

std::string render(const std::vector<Check>& checks, const Style& style) {
  std::string out;
  for (const Check& check : checks) {
    const std::string word = fmt::format("{:<8}", to_string(check.health));
    const std::string mark = check.health == Health::ok        ? style.good(word)
                             : check.health == Health::warning ? style.doubtful(word)
                                                               : style.bad(word);
    fmt::format_to(std::back_inserter(out), "{} {}\n", mark, check.text);
    if (!check.hint.empty()) {
      fmt::format_to(std::back_inserter(out), "{:<8} {}\n", "", check.hint);
    }
  }
  return out;
}

std::string render(const HealthReport& report, const Style& style) {
  std::string out;
  const auto painted = [&style](Verdict verdict, const std::string& text) {
    return verdict == Verdict::pass   ? style.good(text)
           : verdict == Verdict::fail ? style.bad(text)
                                      : style.doubtful(text);
  };
  for (const HealthCheck& check : report.checks) {
    fmt::format_to(std::back_inserter(out), "{} {}\n",
                   painted(check.health, fmt::format("{:<12}", to_string(check.health))),
                   harmless(check.text));
  }
  for (const std::string& line : report.kernel_log) {
    fmt::format_to(std::back_inserter(out), "  {}\n", style.faint(harmless(line)));
  }
  if (report.command && !report.command->output.empty()) {
    fmt::format_to(std::back_inserter(out), "{}{}", report.command->output,
                   report.command->output.ends_with('\n') ? "" : "\n");
  }
  fmt::format_to(std::back_inserter(out), "{}\n", painted(report.health, harmless(report.text)));
  return out;
}

std::string render(const ForceQuestion& question, const Style& style) {
  std::string out =
      fmt::format("{} of {} in {} waits for {} task(s):\n", to_string(question.direction),
                  question.patch, question.domain, question.pending.count);
  append_pending(out, question.pending);
  out +=
      style.bad("They would count as moved wherever they are, and may then mix old and new code.");
  out +=
      "\nThe modules that are taken out of force stay loaded, and the guest should be rebooted.\n";
  return out;
}

std::string render(const Report& report, const Style& style, bool verbose) {
  std::string out;
  if (report.outcome != Outcome::done) {
    for (const Finding& finding : report.findings) {
      if (finding.severity == Severity::error && !report.summary.ends_with(describe(finding))) {
        fmt::format_to(std::back_inserter(out), "{}: {}\n", to_string(finding.severity),
                       harmless(describe(finding)));
      }
    }
    out += render(Error{report.outcome, report.summary, report.hint}, style);
  } else {
    fmt::format_to(std::back_inserter(out), "{}\n", report.summary);
  }
  if (report.outcome != Outcome::done && report.blockers.count > 0) {
    fmt::format_to(std::back_inserter(out), "{} task(s) pending:\n", report.blockers.count);
    append_pending(out, report.blockers);
  }
  if (report.transition) {
    append_transition(out, *report.transition, verbose);
  }
  for (const std::string& text : report.kernel_log) {
    fmt::format_to(std::back_inserter(out), "  {}\n", style.faint(text));
  }
  if (verbose) {
    fmt::format_to(std::back_inserter(out), "took {} ms\n", report.elapsed.count());
  }
  return out;
}

std::string render(const Error& error, const Style& style) {
  std::string out = fmt::format("{} {}\n", style.bad("error:"), harmless(error.what));
  if (!error.hint.empty()) {
    fmt::format_to(std::back_inserter(out), "{}\n", harmless(error.hint));
  }
  return out;
}

std::string render(const std::vector<Registration>& registrations) {
  std::string text;
  for (const Registration& one : registrations) {
    text += harmless(fmt::format("{}: {}{}{}, for {}, from {}", one.domain, one.patch,
                                 one.patch_version.empty() ? "" : " ", one.patch_version,
                                 one.release, one.file)) +
            "\n";
  }
  return text.empty() ? "no livepatch is registered\n" : text;
}

std::string render(const DomainGroups& groups) {
  return harmless(groups.groups.empty()
                      ? fmt::format("{} is in no group", groups.domain)
                      : fmt::format("{}: {}", groups.domain, fmt::join(groups.groups, ", "))) +
         "\n";
}

}  // namespace vpatch

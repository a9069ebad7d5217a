// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/health_verdict.h"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/trouble.h"
#include "vmm-agent/operation/kernel_log.h"

namespace vpatch {
namespace {

using introspect::LogRecord;

constexpr std::size_t kLinesShown = 64;
constexpr std::size_t kLineShown = 200;

HealthCheck check(std::string id, Verdict health, std::string text) {
  return {std::move(id), health, std::move(text)};
}

HealthCheck check_domain(const Result<RunState>& state) {
  if (!state) {
    return check("domain", Verdict::inconclusive, state.error().what);
  }
  const Verdict health = *state == RunState::running   ? Verdict::pass
                         : *state == RunState::crashed ? Verdict::fail
                                                       : Verdict::inconclusive;
  return check("domain", health, fmt::format("the domain is {}", to_string(*state)));
}

HealthCheck check_memory(const std::optional<Result<MemorySigns>>& memory) {
  if (!memory || !*memory) {
    return check("memory", Verdict::inconclusive,
                 memory ? "guest memory cannot be read: " + memory->error().what
                        : "guest memory was not looked at");
  }
  return check("memory", Verdict::pass, "guest memory shows kernel " + (*memory)->release);
}

HealthCheck check_boot(const HealthSigns& signs, const MemorySigns& memory) {
  if (memory.rebooted) {
    return check("boot", Verdict::pass,
                 "the guest has rebooted since: all of its log and its taint count");
  }
  return signs.boot_id.empty()
             ? check("boot", Verdict::inconclusive, "the guest's boot id is not known")
             : check("boot", Verdict::pass, "boot id " + signs.boot_id);
}

/// Programs write to the log too.
bool of_kernel(const LogRecord& record) {
  return record.facility == 0;
}

bool tells_of_panic(const LogRecord& record) {
  return of_kernel(record) && record.text.starts_with("Kernel panic - ");
}

bool tells_of_trouble(const LogRecord& record) {
  return of_kernel(record) && introspect::is_trouble(record.text);
}

HealthCheck check_panic(const MemorySigns& memory) {
  const bool logged = memory.log && std::ranges::any_of(memory.log->records, tells_of_panic);
  return memory.panicked || logged
             ? check("panic", Verdict::fail, "the guest's kernel has panicked")
             : check("panic", Verdict::pass, "no panic");
}

/// The line of a record that tells of trouble.
std::string telling_line(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (introspect::is_trouble(line)) {
      return std::string(line.substr(0, kLineShown));
    }
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return {};
}

/// Records of the log that count, in their order.
std::span<const LogRecord> new_records(const MemorySigns& memory, const HealthSince& since) {
  return memory.log && (memory.rebooted || since.log_sequence) ? memory.log->records
                                                               : std::span<const LogRecord>();
}

HealthCheck check_log(const MemorySigns& memory, const HealthSince& since) {
  if (!memory.log) {
    return check("log", Verdict::inconclusive,
                 "the kernel log cannot be read: " + memory.log.error().what);
  }
  if (!since.log_sequence && !memory.rebooted) {
    return check("log", Verdict::pass, "the kernel log can be read");
  }
  const auto records = new_records(memory, since);
  const auto trouble = std::ranges::find_if(records, tells_of_trouble);
  if (trouble != records.end()) {
    return check("log", Verdict::fail,
                 "the kernel log tells of trouble: " + telling_line(trouble->text));
  }
  if (memory.log->lost > 0) {
    return check("log", Verdict::inconclusive,
                 fmt::format("{} records of the kernel log were lost before they were read",
                             memory.log->lost));
  }
  return check("log", Verdict::pass,
               fmt::format("no trouble in {} new records of the kernel log", records.size()));
}

HealthCheck check_taint(const MemorySigns& memory, const HealthSince& since) {
  const std::uint64_t before = memory.rebooted ? 0 : since.taint.value_or(memory.taint);
  const std::uint64_t fresh = memory.taint & ~before & ~kExpectedTaint;
  return fresh == 0 ? check("taint", Verdict::pass, "the kernel is not newly tainted")
                    : check("taint", Verdict::fail,
                            fmt::format("the kernel is newly tainted ({})", taint_letters(fresh)));
}

HealthCheck check_clock(const std::optional<bool>& ticking) {
  if (!ticking) {
    return check("clock", Verdict::inconclusive, "whether the guest's clock goes on is not known");
  }
  return *ticking ? check("clock", Verdict::pass, "the guest's clock goes on")
                  : check("clock", Verdict::fail,
                          "the guest's clock stands still although the domain runs");
}

HealthCheck check_agent(const std::optional<Result<void>>& agent) {
  if (!agent) {
    return check("agent", Verdict::inconclusive, "the guest agent was not asked");
  }
  return *agent ? check("agent", Verdict::pass, "the guest agent answers")
                : check("agent", Verdict::inconclusive,
                        "the guest agent does not answer: " + agent->error().what);
}

HealthCheck check_command(const std::optional<Result<CommandEnd>>& command) {
  if (!command || !*command) {
    return check("command", Verdict::inconclusive,
                 command ? "the command has no result: " + command->error().what
                         : "the command was not run");
  }
  if (!(*command)->exit_code) {
    return check("command", Verdict::inconclusive, "a signal ended the command");
  }
  const int code = *(*command)->exit_code;
  const Verdict health = code == 0   ? Verdict::pass
                         : code == 1 ? Verdict::fail
                                     : Verdict::inconclusive;
  return check("command", health, fmt::format("the command ended with exit code {}", code));
}

/// From the first that tells of trouble on: what follows it is its stack trace.
std::vector<std::string> explaining_lines(std::span<const LogRecord> records) {
  std::vector<std::string> lines;
  for (auto one = std::ranges::find_if(records, tells_of_trouble); one != records.end(); ++one) {
    const std::string text = log_lines(*one);
    for (std::size_t at = 0; at < text.size() && lines.size() < kLinesShown;) {
      const std::size_t end = text.find('\n', at);
      lines.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  return lines;
}

std::string summary(const HealthSigns& signs, const HealthSince& since,
                    const HealthReport& report) {
  if (report.health == Verdict::pass) {
    const bool rebooted = signs.memory && *signs.memory && (*signs.memory)->rebooted;
    return fmt::format("{} is healthy{}", signs.name,
                       rebooted        ? ", and has rebooted since"
                       : since.given() ? ""
                                       : "; nothing earlier was given to hold it against");
  }
  const auto worst = [&](const HealthCheck& one) { return one.health == report.health; };
  const auto first = std::ranges::find_if(report.checks, worst);
  const auto more = std::ranges::count_if(report.checks, worst) - 1;
  return fmt::format("{}: {}{}", signs.name, first->text,
                     more == 0 ? "" : fmt::format(" (and {} more)", more));
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::pass:
      return "pass";
    case Verdict::fail:
      return "fail";
    case Verdict::inconclusive:
      break;
  }
  return "inconclusive";
}

Outcome outcome_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::pass:
      return Outcome::done;
    case Verdict::fail:
      return Outcome::failed_needs_look;
    case Verdict::inconclusive:
      break;
  }
  return Outcome::unreachable;
}

bool has_rebooted(const HealthSince& since, std::string_view boot_id, std::uint64_t next_sequence) {
  return (!since.boot_id.empty() && !boot_id.empty() && since.boot_id != boot_id) ||
         since.log_sequence.value_or(0) > next_sequence;
}

HealthReport judge_health(const HealthSigns& signs, const HealthSince& since) {
  HealthReport report;
  report.state = signs.domain ? to_string(*signs.domain) : "";
  report.busy = signs.busy;
  report.boot_id = signs.boot_id;
  report.checks = {check_domain(signs.domain), check_memory(signs.memory)};
  if (signs.memory && *signs.memory) {
    const MemorySigns& memory = **signs.memory;
    report.release = memory.release;
    report.taint = memory.taint;
    report.patches = memory.patches;
    if (memory.log) {
      report.log_sequence = memory.log->next_sequence;
    }
    report.kernel_log = explaining_lines(new_records(memory, since));
    for (HealthCheck& one :
         std::vector{check_boot(signs, memory), check_panic(memory), check_log(memory, since),
                     check_taint(memory, since), check_clock(signs.ticking)}) {
      report.checks.push_back(std::move(one));
    }
  }
  report.checks.push_back(check_agent(signs.agent));
  if (signs.command_given) {
    report.checks.push_back(check_command(signs.command));
    if (signs.command && *signs.command) {
      report.command = **signs.command;
    }
  }
  report.health = std::ranges::max(report.checks, {}, &HealthCheck::health).health;
  report.text = summary(signs, since, report);
  return report;
}

}  // namespace vpatch

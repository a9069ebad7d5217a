// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/registered.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/preflight_checks.h"

namespace vpatch {
namespace {

/// The registered livepatches of the domain that `file` took the place of, now or earlier.
std::vector<std::string> superseded(Recorder& recorder, const Domain& domain,
                                    const LivepatchFile& file, const Report& report) {
  std::vector<std::string> names;
  const bool cumulative = file.contents && file.contents->replace.value_or(false);
  if (!file.contents || file.contents->replace.value_or(true)) {
    for (const Registration& other : recorder.registrations(domain.identity())) {
      const bool gone = (cumulative && std::ranges::count(report.beside, other.patch) == 0) ||
                        std::ranges::count(report.replaced, other.patch) > 0;
      if (other.patch != file.name && gone) {
        names.push_back(other.patch);
      }
    }
  }
  return names;
}

void forget(Recorder& recorder, const Domain& domain, const std::string& patch) {
  if (recorder.unregister_patch(domain.identity(), patch)) {
    recorder.step(fmt::format("{} is no longer registered for {}", patch, domain.name()));
  }
}

/// Where a file was read from, for people. One that came over `serve` lies in no folder.
std::string origin_of(const std::string& path) {
  std::error_code ignored;
  return path.starts_with("/proc/self/fd/") ? "a rollout"
                                            : std::filesystem::absolute(path, ignored).string();
}

/// Whether this very file is registered already, and its copy is whole.
bool is_registered(const Domain& domain, const std::string& connection, const LivepatchFile& file) {
  auto journal = Journal::open(Journal::path());
  const auto all = journal
                       ? journal->registrations({.identity = domain.identity(), .connection = {}})
                       : std::unexpected(journal.error());
  return all && std::ranges::any_of(*all, [&](const Registration& one) {
           return one.patch == file.name && one.file_sha256 == file.sha256 &&
                  one.domain == domain.name() && one.connection == connection &&
                  read_registered(*journal, one);
         });
}

}  // namespace

Result<std::vector<Registration>> registrations_of(Journal& journal, const Target& target,
                                                   const qmp::CallOptions& options) {
  if (target.domain.empty() && target.qmp.empty()) {
    return journal.registrations({});
  }
  const auto domain = open_domain(target, options);
  if (domain) {
    return journal.registrations({.identity = (*domain)->identity(), .connection = {}});
  }
  auto all = journal.registrations({});
  if (all) {
    std::erase_if(*all, [&](const Registration& one) {
      return target.domain.empty() ||
             (one.domain != target.domain && one.identity != target.domain);
    });
    if (all->empty()) {
      return std::unexpected(domain.error());
    }
  }
  return all;
}

Report register_file(Recorder& recorder, const Domain& domain, const std::string& connection,
                     const LivepatchFile& file, const std::string& path,
                     const PreflightOptions& rules) {
  Report report;
  report.patch = file.name;
  check_file(file, rules, report.findings);
  const auto wrong = std::ranges::find(report.findings, Severity::error, &Finding::severity);
  if (wrong != report.findings.end()) {
    report.conclude(Outcome::refused, describe(*wrong), wrong->hint);
    return report;
  }
  if (is_registered(domain, connection, file)) {
    report.conclude(Outcome::done,
                    fmt::format("{} is registered for {} already", file.name, domain.name()));
    return report;
  }
  recorder.begin({.verb = "ensure",
                  .domain = domain.name(),
                  .identity = domain.identity(),
                  .patch = file.name,
                  .patch_version = file.version,
                  .file_sha256 = file.sha256,
                  .patch_build_id = file.build_id});
  if (keep_registered(recorder, domain, connection, file, path, report)) {
    report.conclude(Outcome::done, fmt::format("{} is registered for {}", file.name, domain.name()),
                    "`vpatch ensure` puts it in force when the VM runs.");
  } else {
    const std::optional<Error>& failure = recorder.failure();
    report.conclude(Outcome::refused,
                    fmt::format("{} is not registered for {}: the journal does not take it",
                                file.name, domain.name()),
                    failure ? failure->hint : "");
  }
  recorder.end(report, "");
  return report;
}

Result<std::optional<LastLoad>> last_load(Journal& journal, const Registration& registration) {
  const auto found = journal.last_load(registration.identity, registration.file_sha256);
  if (!found) {
    return std::unexpected(found.error());
  }
  const std::optional<StoredOperation>& operation = *found;
  if (!operation) {
    return std::nullopt;
  }
  const auto events = journal.events(operation->id);
  return events ? Result<std::optional<LastLoad>>(judge_load(*operation, *events))
                : std::unexpected(events.error());
}

bool keep_registered(Recorder& recorder, const Domain& domain, const std::string& connection,
                     const LivepatchFile& file, const std::string& path, const Report& report) {
  if (!recorder.register_patch({.identity = domain.identity(),
                                .domain = domain.name(),
                                .connection = connection,
                                .patch = file.name,
                                .patch_version = file.version,
                                .file = origin_of(path),
                                .file_sha256 = file.sha256,
                                .release = file.release},
                               file.bytes)) {
    recorder.warning(fmt::format("{} is not registered for {}", file.name, domain.name()));
    return false;
  }
  recorder.step(fmt::format("registered {} for {}", file.name, domain.name()));
  for (const std::string& patch : superseded(recorder, domain, file, report)) {
    forget(recorder, domain, patch);
  }
  return true;
}

void warn_of_registered(Recorder& recorder, const Domain& domain, const LivepatchFile& file,
                        Report& report) {
  for (const std::string& patch : superseded(recorder, domain, file, report)) {
    warn(recorder, report,
         {Severity::warning, "still-registered",
          fmt::format("{} stays registered for {}, and not {}", patch, domain.name(), file.name),
          "After a reboot `ensure` brings back the former: apply this one again with --persist."});
  }
}

void forget_registered(Recorder& recorder, const Domain& domain, Report& report) {
  const bool done = report.outcome == Outcome::done;
  if (!report.patch.empty()) {
    if (done || report.taken_out) {
      forget(recorder, domain, report.patch);
    }
    return;
  }
  if (!done) {
    return;
  }
  for (const Registration& other : recorder.registrations(domain.identity())) {
    warn(recorder, report,
         {Severity::warning, "still-registered",
          fmt::format("{} stays registered for {}", other.patch, domain.name()),
          fmt::format("`vpatch revert {}` ends that.", other.patch)});
  }
}

void forget_others(Recorder& recorder, const Domain& domain, Report& report) {
  for (const Registration& other : recorder.registrations(domain.identity())) {
    const bool gone =
        report.outcome == Outcome::done || std::ranges::count(report.replaced, other.patch) > 0;
    if (other.patch != report.patch && gone) {
      forget(recorder, domain, other.patch);
    }
  }
}

LastLoad judge_load(const StoredOperation& operation, const std::vector<StoredEvent>& events) {
  LastLoad last{.at = operation.started_at};
  bool rebooted = false;
  for (const StoredEvent& event : events) {
    rebooted = rebooted || event.kind == "rebooted";
    const boost::json::value* const boot = event.detail.if_contains("boot_id");
    if (event.kind == "load" && boot != nullptr && boot->is_string()) {
      last.boot_id = boot->get_string();
    }
  }
  if (!operation.end || operation.end->outcome == Outcome::internal) {
    last.end = LastLoad::End::unknown;
    return last;
  }
  last.text = operation.end->summary;
  last.in_force = operation.end->outcome == Outcome::done;
  if (rebooted || operation.end->outcome == Outcome::failed_needs_look) {
    last.end = LastLoad::End::trouble;
  }
  return last;
}

Result<Registered> read_registered(Journal& journal, const Registration& registration) {
  auto file = read_livepatch(journal.copy_of(registration.file_sha256));
  if (!file) {
    return std::unexpected(std::move(file.error())
                               .in_context(fmt::format("{}: the kept copy of {}",
                                                       registration.domain, registration.patch)));
  }
  if (file->sha256 != registration.file_sha256 || file->name != registration.patch) {
    return fail(Outcome::refused,
                fmt::format("{}: the kept copy of {} is not the file that was registered",
                            registration.domain, registration.patch),
                fmt::format("Apply {} again with --persist.", registration.file));
  }
  auto last = last_load(journal, registration);
  if (!last) {
    return std::unexpected(last.error());
  }
  return Registered{registration, *std::move(file), *std::move(last)};
}

}  // namespace vpatch

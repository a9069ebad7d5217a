// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/recorder.h"

#include <utility>

#include "vmm-agent/cli/json.h"

namespace vpatch {
namespace {

namespace json = boost::json;

json::array strings(const std::vector<std::string>& list) {
  json::array result;
  for (const std::string& text : list) {
    result.emplace_back(text);
  }
  return result;
}

OperationEnd end_of(const Report& report, const std::string& guest_release) {
  OperationEnd end{.outcome = report.outcome,
                   .summary = report.summary,
                   .transition_us = report.transition_us,
                   .patch = report.patch,
                   .guest_release = guest_release,
                   .boot_id = report.boot_id};
  if (report.transition) {
    const TransitionRecord& seen = *report.transition;
    end.transition_us = static_cast<std::uint64_t>(seen.lasted.count());
    end.pause_us = static_cast<std::uint64_t>(seen.paused.count());
    end.pauses = seen.pauses;
    end.retries = seen.retries;
    end.signals = seen.signals;
    end.switches = seen.switches;
  }
  return end;
}

}  // namespace

template <class T>
void Recorder::note_failure(const Result<T>& done) {
  if (!done && !failure_) {
    failure_ = done.error();
  }
}

void Recorder::begin(OperationStart start) {
  start.vpatch_version = VPATCH_VERSION;
  {
    const std::scoped_lock lock(mutex_);
    auto journal = Journal::open(Journal::path());
    auto begun = journal ? journal->begin(start) : std::unexpected(journal.error());
    if (begun) {
      journal_ = *std::move(journal);
      operation_ = *begun;
    } else {
      failure_ = begun.error();
    }
  }
  warn();
}

bool Recorder::event(std::string_view kind, const json::object& detail) {
  const std::scoped_lock lock(mutex_);
  if (lost_ > 0) {  // each try may wait for as long as the journal is locked
    ++lost_;
    return false;
  }
  return write(kind, detail);
}

/// What `ensure` decides by is tried in any case.
bool Recorder::record(std::string_view kind, const json::object& detail) {
  const std::scoped_lock lock(mutex_);
  return write(kind, detail);
}

bool Recorder::write(std::string_view kind, const json::object& detail) {
  if (!journal_) {
    return false;
  }
  const auto done = journal_->event(operation_, kind, detail);
  note_failure(done);
  lost_ += done ? 0U : 1U;
  return done.has_value();
}

void Recorder::step(std::string_view text) {
  reporter_.step(text);
  event("step", {{"text", text}});
}

void Recorder::warning(std::string_view text) {
  reporter_.warning(text);
  event("warning", {{"text", text}});
}

void Recorder::end(const Report& report, const std::string& guest_release) {
  for (const Finding& finding : report.findings) {
    event("finding", to_json(finding));
  }
  if (report.blockers.count > 0) {
    event("blockers", to_json(report.blockers));
  }
  if (report.transition) {
    event("waited-for", to_json(report.transition->pending));
  }
  if (!report.replaced.empty() || !report.unloaded.empty()) {
    event("modules",
          {{"replaced", strings(report.replaced)}, {"unloaded", strings(report.unloaded)}});
  }
  if (!report.kernel_log.empty()) {
    event("kernel-log", {{"lines", strings(report.kernel_log)}});
  }
  write_end(end_of(report, guest_release));
  warn();
}

/// One more try, also where events were lost: an operation without an end looks like a crash.
void Recorder::write_end(const OperationEnd& end) {
  const std::scoped_lock lock(mutex_);
  if (!journal_) {
    return;
  }
  Result<void> done;
  if (lost_ > 0) {
    done = journal_->event(operation_, "events-lost", {{"count", lost_}});
  }
  if (done) {
    done = journal_->end(operation_, end);
  }
  note_failure(done);
}

bool Recorder::register_patch(const Registration& registration, std::span<const std::byte> file) {
  const std::scoped_lock lock(mutex_);
  const auto done = journal_ ? journal_->register_patch(operation_, registration, file)
                             : Result<void>(fail(Outcome::refused, "there is no journal"));
  note_failure(done);
  return done.has_value();
}

bool Recorder::unregister_patch(const std::string& identity, const std::string& patch) {
  const std::scoped_lock lock(mutex_);
  const auto done = journal_ ? journal_->unregister_patch(operation_, identity, patch)
                             : Result<bool>(fail(Outcome::refused, "there is no journal"));
  note_failure(done);
  return done.value_or(false);
}

std::vector<Registration> Recorder::registrations(const std::string& identity) {
  const std::scoped_lock lock(mutex_);
  auto found = journal_ ? journal_->registrations({.identity = identity, .connection = {}})
                        : Result<std::vector<Registration>>(std::in_place);
  note_failure(found);
  return found ? *std::move(found) : std::vector<Registration>();
}

void Recorder::warn() {
  if (failure_ && !told_) {
    told_ = true;
    reporter_.warning("not all of this is written in the journal: " + failure_->what +
                      (failure_->hint.empty() ? "" : " " + failure_->hint));
  }
}

}  // namespace vpatch

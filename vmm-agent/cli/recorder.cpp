// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/recorder.h"

#include "vmm-agent/cli/json.h"

namespace vpatch {

void Recorder::begin(OperationStart start) {
  start.vpatch_version = VPATCH_VERSION;
  const std::scoped_lock lock(mutex_);
  auto journal = Journal::open(Journal::path());
  auto begun = journal ? journal->begin(start) : std::unexpected(journal.error());
  if (begun) {
    journal_ = *std::move(journal);
    operation_ = *begun;
  } else {
    failed_ = begun.error();
    warn();
  }
}

void Recorder::event(std::string_view kind, const boost::json::object& detail) {
  const std::scoped_lock lock(mutex_);
  if (journal_) {
    if (auto done = journal_->event(operation_, kind, detail); !done) {
      failed_ = done.error();
      journal_.reset();
    }
  }
}

void Recorder::end(const Report& report, const std::string& guest_release) {
  for (const Finding& finding : report.findings) {
    event("finding",
          {{"severity", to_string(finding.severity)}, {"id", finding.id}, {"text", finding.text}});
  }
  if (report.blockers.count > 0) {
    event("blockers", to_json(report.blockers));
  }
  OperationEnd end{.outcome = report.outcome,
                   .summary = report.summary,
                   .patch = report.patch,
                   .guest_release = guest_release};
  end.transition_us = report.transition_us;
  if (report.transition) {
    const TransitionRecord& seen = *report.transition;
    event("waited-for", to_json(seen.pending));
    end.transition_us = static_cast<std::uint64_t>(seen.lasted.count());
    end.pause_us = static_cast<std::uint64_t>(seen.paused.count());
    end.pauses = seen.pauses;
    end.retries = seen.retries;
    end.signals = seen.signals;
    end.switches = seen.switches;
  }
  const std::scoped_lock lock(mutex_);
  if (journal_) {
    if (auto done = journal_->end(operation_, end); !done) {
      failed_ = done.error();
    }
  }
  warn();
}

void Recorder::warn() {
  if (failed_) {
    reporter_.warning("this is not written in the journal: " + failed_->what +
                      (failed_->hint.empty() ? "" : " " + failed_->hint));
    failed_.reset();
  }
}

}  // namespace vpatch

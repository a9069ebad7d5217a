// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/transition_assist.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "introspect/guest/livepatch_code.h"
#include "vmm-agent/wait.h"

namespace vpatch {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

/// Between two looks at a transition, by how long it has lasted.
constexpr milliseconds kPace{1};
struct Pace {
  milliseconds from, each;
};
constexpr Pace kSlow{milliseconds(1000), milliseconds(10)};
constexpr Pace kSlower{milliseconds(10'000), milliseconds(50)};
/// How often the guest is checked for still being the same boot.
constexpr milliseconds kCheckEach{500};
/// Who is pending for that long is told with his stack; how often.
constexpr milliseconds kExplainAfter{100};
constexpr milliseconds kExplainEach{500};
/// A guest that cannot be looked at for that long is given up.
constexpr milliseconds kLookPatience{5000};
/// The guardian takes vpatch for hung after a pause that long: far above any that is meant.
constexpr milliseconds kGuardianLimit{1000};
constexpr milliseconds kProgressEach{100};
/// So many switches are told with their stacks; all of them are in the journal.
constexpr std::size_t kKeptSwitches = 100;
/// SIGNALS_TIMEOUT of kernel/livepatch/transition.c.
constexpr std::uint32_t kSignalsTimeout = 15;

std::string report_line(const PendingTask& task) {
  return fmt::format("{} {} {} {} ms {}\n", task.tid, task.name,
                     task.reason.empty() ? "movable" : task.reason,
                     duration_cast<milliseconds>(task.pending_for).count(), task.why);
}

}  // namespace

TransitionAssist::TransitionAssist(AssistSetup setup)
    : setup_(std::move(setup)), observer_(setup_.view) {}

TransitionAssist::~TransitionAssist() {
  finish();
}

void TransitionAssist::prepare(const std::stop_token& stop) {
  if (!prepared_) {
    record_ = {};
    stop_ = stop;
    get_ready();
    prepared_ = true;
  }
}

void TransitionAssist::watch_inside(std::vector<introspect::ForbiddenFunction> functions) {
  finish();
  inside_.emplace(std::move(functions));
}

void TransitionAssist::begin(const std::string& patch, const std::stop_token& stop) {
  finish();
  prepare(stop);
  prepared_ = false;
  patch_ = patch;
  told_ = {};
  thread_ = std::jthread([this](const std::stop_token& ended) { work(ended); });
}

/// Gets ready all that would take time later.
void TransitionAssist::get_ready() {
  // Blockers are told by name: this reads the symbols before they are needed.
  static_cast<void>(setup_.view.kernel().names().kallsyms());
  mailbox_.reset();
  guardian_.reset();
  if (setup_.options.mode == AssistMode::off) {
    return;
  }
  if (auto mailbox = MailboxPort::open(setup_.view)) {
    mailbox_ = *std::move(mailbox);
  } else {
    note("no-guest-module", "the transition goes at the kernel's own pace: " + mailbox.error().what,
         mailbox.error().hint);
  }
  if (setup_.options.mode != AssistMode::full) {
    return;
  }
  auto unsafe = introspect::livepatch_code(setup_.view.kernel());
  auto guardian =
      Guardian::start(setup_.target, std::max(kGuardianLimit, 10 * setup_.options.max_pause),
                      calls(), setup_.guardian_program);
  if (unsafe && guardian) {
    unsafe_ = *std::move(unsafe);
    guardian_ = *std::move(guardian);
  } else {
    note("no-switch", "busy tasks are not moved by pausing the guest: " +
                          (guardian ? unsafe.error().what : guardian.error().what));
  }
}

void TransitionAssist::note(std::string id, std::string text, std::string hint) {
  std::erase_if(record_.notes, [&](const AssistNote& one) { return one.id == id; });
  record_.notes.push_back({std::move(id), std::move(text), std::move(hint)});
}

/// The thread. Nothing that goes wrong in it may end the program, with a guest in transition.
void TransitionAssist::work(const std::stop_token& stop) {
  Error error;
  try {
    error = watch(stop);
  } catch (const std::exception& bug) {
    error = {Outcome::internal, std::string("watching the transition failed: ") + bug.what(), {}};
  }
  const std::scoped_lock lock(mutex_);
  told_.failed = std::move(error);
  changed_.notify_all();
}

/// Looks again and again until it is to stop, or the guest can no longer be looked at.
Error TransitionAssist::watch(const std::stop_token& stop) {
  stop_ = stop;
  auto last_good = steady_clock::now();
  while (!stop.stop_requested()) {
    const auto at = steady_clock::now();
    const auto running = look(at);
    if (running) {
      last_good = at;
      publish(*running, at);
    } else if (at - last_good >= kLookPatience ||
               running.error().outcome == Outcome::failed_needs_look) {
      return running.error();
    }
    wait_unless_stopped(pace(at), stop);
  }
  return {Outcome::refused, "no longer watched", {}};
}

milliseconds TransitionAssist::pace(TimePoint at) const {
  const auto lasts = at - run_.started;
  if (!running_ || lasts < kSlow.from) {
    return kPace;
  }
  return lasts < kSlower.from ? kSlow.each : kSlower.each;
}

/// One turn: whether a transition of the patch runs.
Result<bool> TransitionAssist::look(TimePoint at) {
  if (auto same = check_guest(at); !same) {
    return std::unexpected(std::move(same.error()));
  }
  const auto now = observer_.now();
  if (!now) {
    return std::unexpected(now.error());
  }
  if (now->patch.value() != 0 && now->target_state < 0) {
    return running_;  // the kernel is setting it up, or taking it down
  }
  const bool ours = now->patch.value() != 0 && observer_.follow(*now, at) == patch_;
  if (!ours) {
    if (running_) {
      end(at);
    } else if (!record_.seen) {
      look_inside(Stage::before);
    }
    return false;
  }
  if (!running_ || now->patch != run_.now.patch || now->target_state != run_.now.target_state) {
    start(*now, at);
  }
  run_.first_pass = run_.first_pass && now->busy();
  if (auto looked = observer_.look(at, run_.first_pass, now->busy()); !looked) {
    return std::unexpected(std::move(looked.error()));
  }
  // Nobody is pending yet, nor has moved: the kernel is setting it up.
  run_.setting_up =
      run_.setting_up && run_.first_pass && observer_.pending().empty() && !observer_.any_moved();
  if (run_.setting_up) {
    run_.started = at;
  }
  look_inside(Stage::running);
  explain(*now, at);
  if (auto done = perform(decide(observe(*now, at), setup_.options), *now); !done) {
    return std::unexpected(std::move(done.error()));
  }
  return true;
}

/// One look at all tasks for who is inside the functions that are to be left alone.
void TransitionAssist::look_inside(Stage stage) {
  if (!inside_ || (stage == Stage::running && run_.setting_up)) {
    return;
  }
  const auto look = introspect::look_at_stacks(setup_.view.kernel(), {});
  if (!look) {
    return;
  }
  switch (stage) {
    case Stage::before:
      inside_->see_before(look->tasks);
      break;
    case Stage::running:
      inside_->see(look->tasks, run_.now.target_state);
      break;
    case Stage::ended:
      inside_->see_end(look->tasks);
      break;
  }
}

/// From time to time: forgets which pages the guest had, and sees whether it is the same boot.
Result<void> TransitionAssist::check_guest(TimePoint at) {
  if (at - checked_ < kCheckEach) {
    return {};
  }
  checked_ = at;
  const std::uint64_t boot = setup_.view.kernel().facts().boot_stamp;
  if (auto fresh = setup_.view.refresh(calls()); !fresh) {
    return fresh;
  }
  if (setup_.view.kernel().facts().boot_stamp != boot) {
    mailbox_.reset();
    guardian_.reset();
    observer_.forget();
    running_ = false;
    note("rebooted", "the guest has rebooted meanwhile");
  }
  return {};
}

void TransitionAssist::start(const introspect::TransitionNow& now, TimePoint at) {
  running_ = true;
  run_ = {.now = now, .started = at};
  record_.seen = true;
}

void TransitionAssist::end(TimePoint at) {
  take_down(at);
  look_inside(Stage::ended);
  send_report();
}

/// Puts into the record how the transition went up to now, which is followed no more.
void TransitionAssist::take_down(TimePoint at) {
  running_ = false;
  record_.lasted = duration_cast<microseconds>(at - run_.started);
  record_.completing = run_.all_moved == TimePoint()
                           ? microseconds(0)
                           : duration_cast<microseconds>(at - run_.all_moved);
  record_.pending = observer_.history();
  observer_.forget();
}

/// Who holds it up, for people: costs host time only, and only where it lasts.
void TransitionAssist::explain(const introspect::TransitionNow& now, TimePoint at) {
  const bool moved = observer_.all_moved();
  if (!moved) {
    run_.all_moved = {};
  } else if (run_.all_moved == TimePoint()) {
    run_.all_moved = at;
  }
  if (at - run_.started < kExplainAfter || at - run_.explained < kExplainEach) {
    return;
  }
  run_.explained = at;
  observer_.name_stacks(kExplainAfter);
  run_.stage.clear();
  if (moved && now.busy()) {
    run_.stage = observer_.stage(now.mutex_owner, calls());
  }
}

Observation TransitionAssist::observe(const introspect::TransitionNow& now, TimePoint at) {
  if (mailbox_) {
    if (auto read = mailbox_->refresh(); !read) {
      note("guest-module-lost", "the rest goes at the kernel's own pace: " + read.error().what,
           read.error().hint);
      mailbox_.reset();
    } else if (const int why = mailbox_->refused(); why != 0) {
      note("guest-module-refused",
           "vpatch_guest refused a command: " + std::generic_category().message(why));
    }
  }
  const auto since = [at](TimePoint then) {
    return then == TimePoint() ? nanoseconds::max() : duration_cast<nanoseconds>(at - then);
  };
  Observation seen{
      .kernel_at_work = now.busy(),
      .pending = {},
      .mailbox = mailbox_ && mailbox_->listens(),
      .outstanding = mailbox_ && mailbox_->outstanding(),
      .since_retry = since(std::max(run_.retried, run_.signalled)),
      .since_resched = since(run_.rescheduled),
      .since_signal = since(run_.signalled),
      .since_pause = since(run_.paused),
      .next_pass_signals = now.signals_count != 0 && now.signals_count % kSignalsTimeout == 0,
      .retries = run_.retries,
      .signals = run_.signals,
      .pauses = run_.pauses,
      .may_pause = guardian_.has_value()};
  for (const PendingSeen& one : observer_.pending()) {
    seen.pending.push_back(one.view(at));
  }
  return seen;
}

Result<void> TransitionAssist::perform(const Action& action, const introspect::TransitionNow& now) {
  switch (action.act) {
    case Act::wait:
      if (mailbox_ && mailbox_->listens() && !mailbox_->outstanding() &&
          run_.explained > run_.reported) {
        send_report();
      }
      break;
    case Act::retry:
    case Act::resched:
    case Act::signal:
      ask_guest(action);
      break;
    case Act::pause_and_switch:
      return switch_tasks(now);
  }
  return {};
}

void TransitionAssist::ask_guest(const Action& action) {
  if (!mailbox_) {
    return;
  }
  Result<void> sent;
  const auto at = steady_clock::now();
  switch (action.act) {
    case Act::resched:
      sent = mailbox_->resched(action.cpus, report());
      run_.rescheduled = at;
      ++record_.rescheds;
      break;
    case Act::signal:
      sent = mailbox_->signal(report());
      run_.signalled = at;
      ++run_.signals;
      ++record_.signals;
      break;
    default:
      sent = mailbox_->retry(action.cpu, report());
      run_.retried = at;
      ++run_.retries;
      ++record_.retries;
      break;
  }
  for (const std::size_t task : action.tasks) {
    ++observer_.pending()[task].kicks;
  }
  if (!sent) {
    note("guest-module-lost", "the rest goes at the kernel's own pace: " + sent.error().what);
    mailbox_.reset();
  }
}

Result<void> TransitionAssist::switch_tasks(const introspect::TransitionNow& now) {
  if (!guardian_) {
    return {};
  }
  const SwitchRequest request{.expected = {now.patch, now.target_state},
                              .max_pause = setup_.options.max_pause,
                              .unsafe = unsafe_,
                              .prove = setup_.prove};
  SwitchOutcome outcome =
      pause_and_switch(setup_.view, setup_.domain, *guardian_, request, calls());
  run_.paused = steady_clock::now();
  ++run_.pauses;
  if (outcome.pause) {
    ++record_.pauses;
    record_.paused += *outcome.pause;
    record_.longest_pause = std::max(record_.longest_pause, *outcome.pause);
    run_.paused_for += *outcome.pause;
  }
  run_.switched += static_cast<std::uint32_t>(outcome.switched.size());
  if (setup_.on_pause) {
    setup_.on_pause(patch_, outcome);
  }
  if (!outcome.switched.empty()) {
    std::erase_if(record_.notes, [](const AssistNote& one) { return one.id == "switch-refused"; });
  } else if (!outcome.refused.empty()) {
    note("switch-refused", "a busy task was not moved: " + outcome.refused.front());
  }
  record_.switches += static_cast<std::uint32_t>(outcome.switched.size());
  for (SwitchedTask& task : outcome.switched) {
    if (record_.switched.size() < kKeptSwitches) {
      record_.switched.push_back(std::move(task));
    }
  }
  if (outcome.failed) {
    // A guest that stands still is left to the guardian, which goes on trying.
    guardian_.reset();
    note("no-switch", "a pause failed: " + outcome.failed->what, outcome.failed->hint);
    if (outcome.failed->outcome == Outcome::failed_needs_look) {
      return std::unexpected(*std::move(outcome.failed));
    }
  }
  return {};
}

MailboxReport TransitionAssist::report() const {
  MailboxReport report{.switched = run_.switched, .last_pause = run_.paused_for, .blockers = {}};
  const PendingTasks pending = running_ ? observer_.pending_table() : record_.pending;
  for (const PendingTask& task : pending.first) {
    if (task.pending_for >= kExplainAfter) {
      report.blockers += report_line(task);
    }
  }
  return report;
}

void TransitionAssist::send_report() {
  run_.reported = steady_clock::now();
  if (mailbox_ && !mailbox_->report(report())) {
    mailbox_.reset();
  }
}

void TransitionAssist::publish(bool running, TimePoint at) {
  const std::scoped_lock lock(mutex_);
  ++told_.looks;
  told_.running = running;
  told_.patching = run_.now.target_state == 1;
  told_.since = run_.started;
  if (running && at - run_.started >= kExplainAfter) {
    told_.pending = observer_.pending_table();
    told_.stage = run_.stage;
  }
  changed_.notify_all();
}

Result<AssistedEnd> TransitionAssist::await(milliseconds limit, const std::stop_token& stop,
                                            const Progress& progress) {
  const auto give_up = steady_clock::now() + limit;
  std::unique_lock lock(mutex_);
  // The look that was under way when this was called may have been too early.
  const std::uint64_t first = told_.looks + 2;
  for (;;) {
    changed_.wait_for(lock, stop, kProgressEach,
                      [&] { return told_.failed || (told_.looks >= first && !told_.running); });
    if (told_.failed) {
      return std::unexpected(*told_.failed);
    }
    if (told_.looks >= first && !told_.running) {
      return AssistedEnd{};
    }
    const auto now = steady_clock::now();
    if (stop.stop_requested() || now >= give_up) {
      return AssistedEnd{
          stop.stop_requested() ? AssistedEnd::How::interrupted : AssistedEnd::How::timed_out,
          told_.pending, told_.stage};
    }
    if (told_.running && now - told_.since >= kExplainAfter) {
      std::string text =
          fmt::format("{} {}: {:.1f} s", told_.patching ? "patching" : "unpatching", patch_,
                      std::chrono::duration<double>(now - told_.since).count());
      if (told_.pending.count > 0) {
        text += fmt::format(", {} pending: {}", told_.pending.count,
                            describe(told_.pending.first.front()));
      } else if (!told_.stage.empty()) {
        text += "; the kernel is completing it, and waits " + told_.stage;
      }
      progress(text);
    }
  }
}

TransitionRecord TransitionAssist::finish() {
  if (thread_.joinable()) {
    thread_.request_stop();
    thread_.join();
    if (running_) {
      take_down(steady_clock::now());
    }
    guardian_.reset();
    mailbox_.reset();
    if (inside_) {
      std::ranges::move(inside_->notes(), std::back_inserter(record_.notes));
      inside_.reset();
    }
  }
  return record_;
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// What an operator's commands do, and what failures do.
#include "vmm-agent/rollout/engine.h"

namespace vpatch::rollout {

void Engine::on(const Command& event) {
  switch (event.kind) {
    case Command::Kind::pause:
      if (!rollout_.paused && !rollout_.finished) {
        pause(Cause::command, std::nullopt, event.text);
      }
      return;
    case Command::Kind::resume:
      resume();
      return;
    case Command::Kind::abort:
      if (rollout_.finished || rollout_.course == Course::aborted) {
        return;
      }
      break;
    case Command::Kind::rollback:
      break;
  }
  RolloutRecord& rollout = change_rollout();
  rollout.cause = Cause::command;
  rollout.domain.reset();
  rollout.text = event.text;
  if (event.kind == Command::Kind::abort) {
    abort();
  } else {
    roll_back();
  }
}

RolloutRecord& Engine::change_rollout() {
  rollout_changed_ = true;
  return rollout_;
}

void Engine::pause(Cause cause, std::optional<DomainId> id, const std::string& text) {
  RolloutRecord& rollout = change_rollout();
  rollout.paused = true;
  rollout.cause = cause;
  rollout.domain = id;
  rollout.text = text;
}

void Engine::resume() {
  if (!rollout_.paused) {
    return;
  }
  RolloutRecord& rollout = change_rollout();
  rollout.paused = false;
  if (rollout.course == Course::forward) {
    rollout.cause = Cause::none;
    rollout.domain.reset();
    rollout.text.clear();
    rollout.accepted = static_cast<std::uint32_t>(failures_);
  }
  progress_since_ = now_;
  revert_watched();
  rebuild_lines();
  set_soak_alarms();
}

void Engine::abort() {
  RolloutRecord& rollout = change_rollout();
  rollout.course = Course::aborted;
  rollout.paused = false;
  leave_waiting_alone();
  rebuild_lines();
}

void Engine::roll_back() {
  RolloutRecord& rollout = change_rollout();
  rollout.course = Course::back;
  rollout.paused = false;
  rollout.finished = false;
  leave_waiting_alone();
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (revert_failed(domains_[id].record)) {
      domains_[id].record.before = DomainState::failed;  // it is tried again
      mark_changed(id);
    }
  }
  revert_watched();
  rebuild_lines();
}

void Engine::leave_waiting_alone() {
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (domains_[id].record.state == DomainState::waiting) {
      set_state(id, DomainState::left_alone,
                rollout_.course == Course::back ? "rolled back before its turn came"
                                                : "aborted before its turn came");
    }
  }
}

/// What a rollback takes back anyway is not watched to its end.
void Engine::revert_watched() {
  if (rollout_.course != Course::back) {
    return;
  }
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (domains_[id].record.state == DomainState::watching) {
      start_revert(id);
    }
  }
}

void Engine::trigger(Cause cause, std::optional<DomainId> id, const std::string& text) {
  if (rollout_.course != Course::forward) {
    return;
  }
  pause(cause, id, text);
  if (plan_.on_failure == OnFailure::abort) {
    abort();
  } else if (plan_.on_failure == OnFailure::rollback) {
    roll_back();
  }
}

}  // namespace vpatch::rollout

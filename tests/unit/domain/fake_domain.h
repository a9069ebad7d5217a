// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <unistd.h>

#include "vmm-agent/domain/domain.h"

namespace vpatch {

/// Of a domain that no other process uses.
inline std::string own_identity() {
  return "test-" + std::to_string(getpid());
}
inline void remove_lock(const std::string& identity) {
  unlink(("/run/vpatch/" + identity + ".pause.lock").c_str());
}

/// A monitor that knows of no migration, unless told that one is under way.
class FakeMonitor final : public qmp::Channel {
 public:
  std::string migration = "none";

  qmp::Result<boost::json::value> execute(std::string_view, boost::json::object,
                                          const qmp::CallOptions&) override {
    return boost::json::value{{"status", migration}};
  }
};

/// Records what is asked of it, in order, and fails where it is told to.
class FakeDomain final : public Domain {
 public:
  RunState state = RunState::running;
  bool pause_fails = false;
  int failing_resumes = 0;  ///< the first so many
  std::chrono::milliseconds pause_takes{0};

  std::optional<std::chrono::microseconds> stopped;  ///< what its events tell, if they come
  bool resumed_by_another = false;                   ///< what its events tell
  FakeMonitor fake_monitor;
  qmp::Channel* channel = &fake_monitor;  ///< the monitor, if there is one

  std::vector<std::string> calls;
  bool resume_was_stoppable = false;

  FakeDomain() = default;
  ~FakeDomain() override { remove_lock(identity_); }

  const std::string& name() const override { return name_; }
  const std::string& identity() const override { return identity_; }

  Result<RunState> run_state(const qmp::CallOptions&) override { return state; }

  Result<void> pause(const qmp::CallOptions&) override {
    calls.emplace_back("pause");
    std::this_thread::sleep_for(pause_takes);
    if (pause_fails) {
      return fail(Outcome::unreachable, "no answer to pause");
    }
    state = RunState::paused;
    return {};
  }

  Result<void> resume(const qmp::CallOptions& options) override {
    calls.emplace_back("resume");
    resume_was_stoppable = resume_was_stoppable || options.stop.stop_possible();
    if (failing_resumes > 0) {
      --failing_resumes;
      return fail(Outcome::unreachable, "no answer to resume");
    }
    state = RunState::running;
    return {};
  }

  void watch_stops(const qmp::CallOptions&) override { watched_ = calls.empty(); }
  Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions&) override {
    return watched_ && stopped ? Result<std::chrono::microseconds>(*stopped)
                               : fail(Outcome::unreachable, "no event");
  }
  bool resumed_by_others() override { return resumed_by_another; }

  Result<qmp::Channel*> monitor() override {
    return channel != nullptr ? Result<qmp::Channel*>(channel) : fail(Outcome::unreachable, "none");
  }
  Result<qmp::Channel*> agent(const qmp::CallOptions&) override {
    return fail(Outcome::unreachable, "none");
  }
  Result<pid_t> vmm_pid() override { return fail(Outcome::unreachable, "none"); }

 private:
  std::string identity_ = own_identity();
  std::string name_ = "web01";
  bool watched_ = false;  ///< before anything was asked
};

}  // namespace vpatch

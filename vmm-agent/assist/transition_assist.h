// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vmm-agent/assist/assistance.h"
#include "vmm-agent/assist/mailbox_port.h"
#include "vmm-agent/assist/observer.h"
#include "vmm-agent/assist/policy.h"
#include "vmm-agent/assist/quiesce_watch.h"
#include "vmm-agent/assist/switcher.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/guardian.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch {

/// What a TransitionAssist works with; all of it must outlive it.
struct AssistSetup {
  GuestView& view;
  Domain& domain;
  Target target;
  AssistOptions options;
  std::chrono::milliseconds call_timeout{20'000};
  /// Told of each pause as soon as it is over, in the assisting thread.
  std::function<void(const std::string& patch, const SwitchOutcome& outcome)> on_pause{};
  Prover prove = prove_switch;
  std::string guardian_program = Guardian::kThisProgram;
};

/// Assistance from guest memory: a thread that looks at the guest each millisecond while a
/// transition of the patch runs, less often at one that lasts, and does what decide() says.
class TransitionAssist final : public Assistance {
 public:
  explicit TransitionAssist(AssistSetup setup);
  ~TransitionAssist() override;

  void prepare(const std::stop_token& stop) override;
  void watch_inside(std::vector<introspect::ForbiddenFunction> functions) override;
  void begin(const std::string& patch, const std::stop_token& stop) override;
  Result<AssistedEnd> await(std::chrono::milliseconds limit, const std::stop_token& stop,
                            const Progress& progress) override;
  TransitionRecord finish() override;

 private:
  using TimePoint = PendingSeen::TimePoint;

  /// What the assisting thread last told; shared.
  struct Told {
    std::uint64_t looks = 0;
    bool running = false;
    bool patching = false;
    TimePoint since{};  // of the transition
    PendingTasks pending;
    std::string stage;
    std::optional<Error> failed;
  };

  /// One transition, in one direction, while it runs and until the next.
  struct Run {
    introspect::TransitionNow now{};
    bool setting_up = true;  ///< nobody is pending yet, nor has moved
    bool first_pass = true;  ///< klp_mutex has been held all the time
    TimePoint started{}, all_moved{}, explained{}, reported{};
    TimePoint retried{}, rescheduled{}, signalled{}, paused{};
    std::uint32_t retries = 0, signals = 0, switched = 0;
    std::uint32_t pauses = 0;  ///< tried, whatever came of them
    std::chrono::microseconds paused_for{};
    std::string stage{};
  };

  void get_ready();
  void work(const std::stop_token& stop);
  Error watch(const std::stop_token& stop);
  Result<bool> look(TimePoint at);
  enum class Stage : std::uint8_t { before, running, ended };
  void look_inside(Stage stage);
  Result<void> check_guest(TimePoint at);
  void start(const introspect::TransitionNow& now, TimePoint at);
  void end(TimePoint at);
  void take_down(TimePoint at);
  void explain(const introspect::TransitionNow& now, TimePoint at);
  Observation observe(const introspect::TransitionNow& now, TimePoint at);
  Result<void> perform(const Action& action, const introspect::TransitionNow& now);
  void ask_guest(const Action& action);
  Result<void> switch_tasks(const introspect::TransitionNow& now);
  void send_report();
  MailboxReport report() const;
  /// Takes the place of an earlier note of that id.
  void note(std::string id, std::string text, std::string hint = {});
  void publish(bool running, TimePoint at);
  std::chrono::milliseconds pace(TimePoint at) const;
  qmp::CallOptions calls() const { return {setup_.call_timeout, stop_}; }

  AssistSetup setup_;
  std::string patch_;

  // Of the assisting thread, and of the caller when it does not run.
  TransitionObserver observer_;
  std::optional<MailboxPort> mailbox_;
  std::optional<Guardian> guardian_;
  std::optional<QuiesceWatch> inside_;
  std::vector<introspect::VirtRange> unsafe_;
  TransitionRecord record_;
  std::stop_token stop_;  // of the caller while it prepares, then of the thread
  bool prepared_ = false;
  bool running_ = false;
  Run run_{};
  TimePoint checked_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  Told told_;
  std::jthread thread_;
};

}  // namespace vpatch

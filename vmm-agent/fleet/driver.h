// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "vmm-agent/fleet/domain_session.h"
#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/rollout/engine.h"

namespace vpatch::fleet {

/// What the driver of a rollout works with, so that tests can do without hosts.
struct DriverSetup {
  boost::asio::io_context& context;
  RolloutStore& store;
  rollout::Plan plan;
  StoredRollout rollout;
  /// The session of one of connections_of(rollout). `now` is as they see it.
  std::function<std::unique_ptr<DomainSession>(const std::string& connection,
                                               const StoredRollout& rollout, SessionEvents events)>
      open_session;
  std::function<rollout::Time()> now;
  /// Spreads the attempts to reach lost hosts.
  std::uint32_t seed = 0;
};

/// What happens, for who watches. Each may be left out.
struct DriverObserver {
  std::function<void(const RolloutEvent& event)> event;
  /// A verb says something: "step", "warning" or "progress".
  std::function<void(rollout::DomainId, std::string_view kind, const std::string& text)> progress;
  /// A verb has printed its report.
  std::function<void(rollout::DomainId)> report;
};

/// The connections of a rollout, each once; their places are its rollout::ConnectionIds.
std::vector<std::string> connections_of(const StoredRollout& rollout);

/// Carries a rollout out: gives the engine what happens, journals what it decides, and only then
/// has it done. One thread: the context's.
///
/// It ends once the rollout has finished, or is paused and nothing is at work; after interrupt();
/// and when the journal fails, since what cannot be journaled must not be begun.
class Driver {
 public:
  Driver(DriverSetup setup, DriverObserver observer);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver();

  /// Begins, with a command where one was given. The context then runs until the end, and this
  /// never again.
  void start(const std::optional<rollout::Command>& command = {});
  /// An operator's command, as if another process had left it.
  void command(const rollout::Command& command);
  /// Interrupts all work, and ends when it has ended. The rollout can be resumed.
  void interrupt();

  const StoredRollout& rollout() const { return rollout_; }
  rollout::Summary summary() const { return engine_.summary(); }
  /// What each verb that runs said last.
  const std::map<rollout::DomainId, std::string>& doing() const { return doing_; }
  rollout::Time now() const { return setup_.now(); }
  bool has_ended() const { return ended_; }
  /// Why it has ended, if that was not the rollout's end.
  const std::optional<Error>& error() const { return error_; }

 private:
  struct Connection {
    std::string name;
    std::unique_ptr<DomainSession> session;
    bool up = false;
    bool told_lost = false;
    std::chrono::steady_clock::time_point up_since{};
    std::uint32_t attempts = 0;
    std::unique_ptr<boost::asio::steady_timer> again;
  };

  /// A timer's handler that does nothing once this object is gone.
  template <class Function>
  auto while_here(Function function) const {
    return [here = std::weak_ptr<const bool>(here_),
            function = std::move(function)](const boost::system::error_code& error) {
      if (!here.expired()) {
        function(error);
      }
    };
  }

  SessionEvents events_of(rollout::ConnectionId id);
  void connection_up(rollout::ConnectionId id);
  void connection_lost(rollout::ConnectionId id, const std::string& why);
  void connect_later(rollout::ConnectionId id);
  bool save_mark(rollout::DomainId id, const HealthMark& mark,
                 const std::vector<std::string>& former);
  void save_report(rollout::DomainId id, RolloutStore::ReportKind kind,
                   const boost::json::object& report);

  void handle(const rollout::Event& event);
  bool journal(const rollout::Step& step);
  void carry_out(const rollout::Action& action);
  void note(const RolloutEvent& event);
  void set_timer();
  void poll_commands();
  void leave_to_ensure(rollout::ConnectionId id);
  void warn_of_unregistered();
  void end_if_done();
  void end();
  void finish();
  void fail_with(Error error);

  DriverSetup setup_;
  DriverObserver observer_;
  StoredRollout rollout_;
  std::vector<rollout::ConnectionId> connection_of_;  ///< by DomainId
  std::vector<Connection> connections_;
  rollout::Engine engine_;
  std::map<rollout::OperationId, rollout::DomainId> running_;
  std::map<rollout::DomainId, std::string> doing_;
  std::set<rollout::DomainId> unregistered_;        ///< off, and not yet left to `vpatch ensure`
  std::set<rollout::DomainId> registering_;         ///< of these, whom a session works on
  std::map<rollout::DomainId, unsigned> warnings_;  ///< journaled, by this object
  boost::asio::steady_timer wake_up_;
  boost::asio::steady_timer poll_;
  std::minstd_rand random_;
  std::shared_ptr<const bool> here_ = std::make_shared<const bool>(true);
  bool ending_ = false;
  bool ended_ = false;
  std::optional<Error> error_;
};

}  // namespace vpatch::fleet

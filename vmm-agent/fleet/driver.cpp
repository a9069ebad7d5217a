// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/driver.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/journal/now_utc.h"

namespace vpatch::fleet {
namespace {

using rollout::ActionKind;
using rollout::ConnectionId;
using rollout::DomainId;
using rollout::DomainState;
using std::chrono::milliseconds;

/// How long a command of another process may lie unseen.
constexpr milliseconds kPollEach{300};
constexpr milliseconds kFirstRetry{1000};
constexpr milliseconds kLongestRetry{30'000};
/// A connection that held for so long is tried again soon when it is lost.
constexpr std::chrono::minutes kSteady{1};
/// Of one domain, in the journal: its host could give any number.
constexpr unsigned kMostWarnings = 50;
/// For all work to end that was interrupted, before its hosts are left to themselves.
constexpr std::chrono::minutes kEndLimit{16};

rollout::Engine make_engine(const rollout::Plan& plan, const StoredRollout& stored,
                            const std::vector<ConnectionId>& connections, rollout::Time now) {
  std::vector<rollout::FleetDomain> fleet;
  fleet.reserve(stored.begin.domains.size());
  for (DomainId id = 0; id < stored.begin.domains.size(); ++id) {
    const RolloutDomain& domain = stored.begin.domains[id];
    fleet.push_back({.connection = connections[id], .wave = domain.wave, .record = domain.record});
  }
  return rollout::Engine::restore(plan, std::move(fleet), stored.record, now);
}

std::vector<ConnectionId> connection_ids(const StoredRollout& rollout) {
  const auto names = connections_of(rollout);
  std::unordered_map<std::string, ConnectionId> places;
  for (ConnectionId id = 0; id < names.size(); ++id) {
    places.emplace(names[id], id);
  }
  std::vector<ConnectionId> ids;
  ids.reserve(rollout.begin.domains.size());
  for (const RolloutDomain& domain : rollout.begin.domains) {
    ids.push_back(places.at(domain.connection));
  }
  return ids;
}

/// What a change of the rollout itself is called in the timeline.
std::vector<RolloutEvent> events_of_change(const rollout::RolloutRecord& before,
                                           const rollout::RolloutRecord& after,
                                           const std::string& at) {
  std::vector<RolloutEvent> events;
  const auto add = [&](std::string kind, std::string text) {
    events.push_back(
        {.at = at, .domain = after.domain, .kind = std::move(kind), .text = std::move(text)});
  };
  const std::string why =
      after.text.empty() ? std::string(rollout::to_string(after.cause)) : after.text;
  if (after.course != before.course) {
    add(after.course == rollout::Course::back      ? "rollback"
        : after.course == rollout::Course::aborted ? "aborted"
                                                   : "resumed",
        why);
  }
  if (after.paused != before.paused) {
    add(after.paused ? "paused" : "resumed", after.paused ? why : "");
  }
  if (after.wave != before.wave && !after.finished) {
    add("wave", std::to_string(after.wave));
  }
  if (after.finished && !before.finished) {
    add("finished", "");
  }
  return events;
}

}  // namespace

std::vector<std::string> connections_of(const StoredRollout& rollout) {
  std::vector<std::string> names;
  std::unordered_map<std::string_view, bool> known;
  for (const RolloutDomain& domain : rollout.begin.domains) {
    if (known.emplace(domain.connection, true).second) {
      names.push_back(domain.connection);
    }
  }
  return names;
}

Driver::Driver(DriverSetup setup, DriverObserver observer)
    : setup_(std::move(setup)),
      observer_(std::move(observer)),
      rollout_(std::move(setup_.rollout)),
      connection_of_(connection_ids(rollout_)),
      engine_(make_engine(setup_.plan, rollout_, connection_of_, setup_.now())),
      wake_up_(setup_.context),
      poll_(setup_.context),
      random_(setup_.seed) {
  for (const std::string& name : connections_of(rollout_)) {
    const auto id = static_cast<ConnectionId>(connections_.size());
    connections_.push_back({.name = name,
                            .session = setup_.open_session(name, rollout_, events_of(id)),
                            .again = std::make_unique<boost::asio::steady_timer>(setup_.context)});
  }
  for (DomainId id = 0; id < connection_of_.size(); ++id) {
    const RolloutDomain& domain = rollout_.begin.domains[id];
    if (setup_.plan.persist && domain.record.state == DomainState::off && domain.file) {
      unregistered_.insert(id);
    }
  }
}

Driver::~Driver() = default;

void Driver::start(const std::optional<rollout::Command>& command) {
  for (Connection& connection : connections_) {
    connection.session->connect();
  }
  if (command) {
    handle(*command);
  }
  poll_commands();  // before it may be found at rest
  handle(rollout::Tick{});
}

void Driver::command(const rollout::Command& command) {
  handle(command);
}

// What sessions tell.

SessionEvents Driver::events_of(ConnectionId id) {
  return {
      .answer =
          [this](const rollout::Event& event) {
            std::visit(
                [this](const auto& each) {
                  if constexpr (requires { each.operation; }) {
                    running_.erase(each.operation);
                    doing_.erase(each.domain);
                  }
                },
                event);
            handle(event);
            if (ending_ && running_.empty()) {
              poll_.cancel();  // and with it the wait of end()
            }
          },
      .up = [this, id] { connection_up(id); },
      .lost = [this, id](const std::string& why) { connection_lost(id, why); },
      .left =
          [this](DomainId domain, bool registered) {
            registering_.erase(domain);
            if (registered) {
              unregistered_.erase(domain);
            }
            end_if_done();
          },
      .progress =
          [this](DomainId domain, std::string_view kind, const std::string& text) {
            const auto runs = [domain](const auto& each) { return each.second == domain; };
            if (std::ranges::any_of(running_, runs)) {
              doing_[domain] = text;
            }
            if (kind == "warning" && ++warnings_[domain] <= kMostWarnings) {
              note({.at = now_utc(), .domain = domain, .kind = "warning", .text = text});
            }
            if (observer_.progress) {
              observer_.progress(domain, kind, text);
            }
          },
      .report = [this](DomainId domain, RolloutStore::ReportKind kind,
                       const boost::json::object& report) { save_report(domain, kind, report); },
      .mark =
          [this](DomainId domain, const HealthMark& mark, const std::vector<std::string>& former) {
            return save_mark(domain, mark, former);
          }};
}

void Driver::connection_up(ConnectionId id) {
  Connection& connection = connections_[id];
  connection.up = true;
  connection.up_since = std::chrono::steady_clock::now();
  if (std::exchange(connection.told_lost, false)) {
    note({.at = now_utc(), .kind = "connection-up", .text = connection.name});
  }
  if (ending_) {
    return;
  }
  handle(rollout::ConnectionUp{id});
  leave_to_ensure(id);
}

void Driver::leave_to_ensure(ConnectionId id) {
  if (rollout_.record.course != rollout::Course::forward) {
    return;
  }
  for (const DomainId domain : std::set(unregistered_)) {
    if (connection_of_[domain] == id) {
      registering_.insert(domain);
      connections_[id].session->leave_to_ensure(domain);
    }
  }
}

void Driver::warn_of_unregistered() {
  for (const DomainId domain : unregistered_) {
    note({.at = now_utc(),
          .domain = domain,
          .kind = "warning",
          .text =
              "it is off, and its livepatch could not be registered: `vpatch ensure --register` "
              "does so once its host answers"});
  }
}

void Driver::connection_lost(ConnectionId id, const std::string& why) {
  Connection& connection = connections_[id];
  const bool was_up = std::exchange(connection.up, false);
  if (was_up && std::chrono::steady_clock::now() - connection.up_since >= kSteady) {
    connection.attempts = 0;
  }
  std::erase_if(running_, [&](const auto& each) { return connection_of_[each.second] == id; });
  std::erase_if(doing_, [&](const auto& each) { return connection_of_[each.first] == id; });
  std::erase_if(registering_, [&](DomainId each) { return connection_of_[each] == id; });
  if (ending_) {
    if (running_.empty()) {
      poll_.cancel();
    }
    return;
  }
  if (!std::exchange(connection.told_lost, true)) {
    note({.at = now_utc(),
          .kind = "connection-lost",
          .text = fmt::format("{}: {}", connection.name, why)});
  }
  if (was_up) {
    handle(rollout::ConnectionLost{id, why});
  }
  if (!ending_) {
    connect_later(id);
  }
}

void Driver::connect_later(ConnectionId id) {
  Connection& connection = connections_[id];
  const auto base =
      std::min(kLongestRetry, kFirstRetry * (1U << std::min(connection.attempts, 5U)));
  ++connection.attempts;
  const milliseconds jitter(
      static_cast<std::int64_t>(random_() % static_cast<std::uint32_t>(base.count() / 2)));
  connection.again->expires_after(base + jitter);
  connection.again->async_wait(while_here([this, id](const boost::system::error_code& error) {
    if (!error && !ending_) {
      connections_[id].session->connect();
    }
  }));
}

bool Driver::save_mark(DomainId id, const HealthMark& mark,
                       const std::vector<std::string>& former) {
  const auto saved = setup_.store.save_mark(rollout_.id, id, mark, former);
  if (!saved) {
    fail_with(saved.error());
    return false;
  }
  RolloutDomain& domain = rollout_.begin.domains[id];
  domain.mark = mark;
  domain.former = former;
  return true;
}

void Driver::save_report(DomainId id, RolloutStore::ReportKind kind,
                         const boost::json::object& report) {
  if (report.empty()) {
    return;
  }
  RolloutDomain& domain = rollout_.begin.domains[id];
  auto& place = kind == RolloutStore::ReportKind::apply    ? domain.apply_report
                : kind == RolloutStore::ReportKind::revert ? domain.revert_report
                                                           : domain.health_report;
  place = brief(report);
  if (const auto saved = setup_.store.save_report(rollout_.id, id, kind, *place); !saved) {
    fail_with(saved.error());
  } else if (observer_.report) {
    observer_.report(id);
  }
}

// What the engine decides.

void Driver::handle(const rollout::Event& event) {
  if (ending_) {
    return;  // what was begun is looked at after a resume
  }
  const rollout::Step step = engine_.handle(event, setup_.now());
  if (!journal(step)) {
    return;
  }
  for (const rollout::Action& action : step.actions) {
    carry_out(action);
  }
  set_timer();
  end_if_done();
}

bool Driver::journal(const rollout::Step& step) {
  if (step.domains.empty() && !step.rollout) {
    return true;
  }
  const std::string at = now_utc();
  std::vector<RolloutEvent> events;
  for (const rollout::DomainChange& change : step.domains) {
    const rollout::DomainRecord& before = rollout_.begin.domains[change.domain].record;
    if (change.record.state != before.state || change.record.text != before.text) {
      events.push_back({.at = at,
                        .domain = change.domain,
                        .kind = std::string(rollout::to_string(change.record.state)),
                        .text = change.record.text});
    }
  }
  if (step.rollout) {
    std::ranges::move(events_of_change(rollout_.record, *step.rollout, at),
                      std::back_inserter(events));
  }
  if (const auto saved = setup_.store.save(rollout_.id, step, events); !saved) {
    fail_with(saved.error());
    return false;
  }
  for (const rollout::DomainChange& change : step.domains) {
    rollout_.begin.domains[change.domain].record = change.record;
  }
  if (step.rollout) {
    rollout_.record = *step.rollout;
  }
  for (const RolloutEvent& event : events) {
    if (observer_.event) {
      observer_.event(event);
    }
  }
  return true;
}

void Driver::carry_out(const rollout::Action& action) {
  DomainSession& session = *connections_[connection_of_[action.domain]].session;
  if (action.kind == ActionKind::cancel) {
    session.cancel(action.operation);
    return;
  }
  running_.emplace(action.operation, action.domain);
  switch (action.kind) {
    case ActionKind::look:
      return session.look(action.domain, action.operation);
    case ActionKind::apply:
      return session.apply(action.domain, action.operation);
    case ActionKind::check_health:
      return session.check_health(action.domain, action.operation);
    case ActionKind::revert:
      return session.revert(action.domain, action.operation);
    case ActionKind::cancel:
      break;
  }
}

void Driver::note(const RolloutEvent& event) {
  if (const auto saved = setup_.store.add_event(rollout_.id, event); !saved) {
    fail_with(saved.error());
  } else if (observer_.event) {
    observer_.event(event);
  }
}

void Driver::set_timer() {
  const auto next = engine_.next_wake_up();
  if (!next) {
    wake_up_.cancel();
    return;
  }
  const auto wait = std::clamp<std::chrono::seconds>(*next - setup_.now(), std::chrono::seconds(0),
                                                     std::chrono::hours(1));
  wake_up_.expires_after(wait);
  wake_up_.async_wait(while_here([this](const boost::system::error_code& error) {
    if (!error) {
      handle(rollout::Tick{});
    }
  }));
}

void Driver::poll_commands() {
  if (ending_) {
    return;
  }
  const auto commands = setup_.store.commands(rollout_.id);
  if (!commands) {
    fail_with(commands.error());
    return;
  }
  for (const StoredCommand& stored : *commands) {
    if (ending_) {
      return;  // it was not carried out: it is left to who goes on with the rollout
    }
    handle(stored.command);
    if (error_) {
      return;  // not journaled
    }
    if (const auto taken = setup_.store.take(stored.id); !taken) {
      fail_with(taken.error());
      return;
    }
  }
  if (ending_) {
    return;
  }
  poll_.expires_after(kPollEach);
  poll_.async_wait(while_here([this](const boost::system::error_code& error) {
    if (!error) {
      poll_commands();
    }
  }));
}

// The end.

void Driver::interrupt() {
  end();
}

void Driver::fail_with(Error error) {
  if (!error_) {
    error_ = std::move(error);
  }
  end();
}

void Driver::end_if_done() {
  const bool rests =
      engine_.rollout().finished || (engine_.rollout().paused && engine_.summary().at_work == 0);
  if (!ending_ && rests && running_.empty() && registering_.empty()) {
    if (rollout_.record.course == rollout::Course::forward) {
      warn_of_unregistered();
    }
    end();
  }
}

void Driver::end() {
  if (std::exchange(ending_, true)) {
    return;
  }
  wake_up_.cancel();
  for (const Connection& connection : connections_) {
    connection.again->cancel();
  }
  for (const auto& [operation, domain] : running_) {
    connections_[connection_of_[domain]].session->cancel(operation);
  }
  // Never from inside the call that led here.
  poll_.expires_after(running_.empty() ? milliseconds(0) : milliseconds(kEndLimit));
  poll_.async_wait(while_here([this](const boost::system::error_code&) { finish(); }));
}

void Driver::finish() {
  if (std::exchange(ended_, true)) {
    return;
  }
  for (const Connection& connection : connections_) {
    connection.session->close();
  }
  setup_.context.stop();
}

}  // namespace vpatch::fleet

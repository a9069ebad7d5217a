// SPDX-License-Identifier: Apache-2.0
// A driver whose hosts are made up, and whose journal is real.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tests/unit/fleet/store_support.h"
#include "vmm-agent/fleet/driver.h"

namespace vpatch::fleet {

/// What was asked of the sessions, over the life of all drivers of a test.
struct Asked {
  std::string what;  ///< "apply", ...
  rollout::DomainId domain = 0;
  rollout::OperationId operation = 0;
};

class FakeSession final : public DomainSession {
 public:
  FakeSession(std::vector<Asked>& asked, SessionEvents told)
      : events(std::move(told)), asked_(asked) {}

  void connect() override { ++connects; }
  void look(rollout::DomainId d, rollout::OperationId o) override { ask("look", d, o); }
  void apply(rollout::DomainId d, rollout::OperationId o) override { ask("apply", d, o); }
  void check_health(rollout::DomainId d, rollout::OperationId o) override { ask("health", d, o); }
  void revert(rollout::DomainId d, rollout::OperationId o) override { ask("revert", d, o); }
  void leave_to_ensure(rollout::DomainId d) override { ask("ensure", d, 0); }
  void left(rollout::DomainId d, bool registered = true) const { events.left(d, registered); }
  void cancel(rollout::OperationId o) override { ask("cancel", 0, o); }
  void close() override { closed = true; }

  SessionEvents events;
  int connects = 0;
  bool closed = false;

 private:
  void ask(const char* what, rollout::DomainId domain, rollout::OperationId operation) {
    asked_.push_back({what, domain, operation});
    if (on_ask) {
      on_ask();
    }
  }

 public:
  std::function<void()> on_ask;

 private:
  std::vector<Asked>& asked_;
};

class DriverTest : public RolloutStoreTest {
 protected:
  /// Stores a rollout whose domains are all of one wave.
  void begin(std::size_t domains, const std::function<void(NewRollout&)>& change = {});
  /// A driver of what is stored now; the one before is dropped as a crash would.
  void make_driver();
  void start(const std::optional<rollout::Command>& command = {});
  /// Has what is due done: no wait for anything else.
  void turn();
  /// Until the driver has ended, or the context has nothing more to do within a bound.
  void run_to_end();
  void up(std::size_t connection = 0) { sessions.at(connection)->events.up(); }

  /// The newest that was asked and not answered yet, of this kind and domain.
  Asked newest(const std::string& what, rollout::DomainId domain) const;
  std::size_t count(const std::string& what) const;
  void finish(rollout::DomainId domain, const std::string& what = "apply",
              Outcome outcome = Outcome::done);
  void looked(rollout::DomainId domain, rollout::Looked::Guest guest);
  void healthy(rollout::DomainId domain);
  StoredRollout stored() const { return open_store().load("fix").value(); }
  rollout::DomainState state(rollout::DomainId domain) const {
    return stored().begin.domains.at(domain).record.state;
  }
  std::vector<std::string> kinds() const;
  void sql(const std::string& text) const;

  boost::asio::io_context context{1};
  rollout::Plan plan;
  rollout::Time now{std::chrono::seconds(1'800'000'000)};
  std::vector<Asked> asked;
  std::vector<FakeSession*> sessions;  ///< of the newest driver
  std::function<void()> on_ask;
  RolloutId id{};
  std::unique_ptr<Driver> driver;
};

}  // namespace vpatch::fleet

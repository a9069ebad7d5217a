// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/fleet/driver_support.h"

#include <algorithm>

#include <SQLiteCpp/SQLiteCpp.h>

namespace vpatch::fleet {

using namespace std::chrono_literals;

void DriverTest::begin(std::size_t domains, const std::function<void(NewRollout&)>& change) {
  plan.waves.resize(1);
  plan.healthy_for = 0s;
  NewRollout rollout = some_rollout("fix", domains);
  for (RolloutDomain& domain : rollout.domains) {
    domain.wave = 1;
  }
  if (change) {
    change(rollout);
  }
  id = store_.create(rollout).value();
}

void DriverTest::make_driver() {
  driver.reset();
  sessions.clear();
  context.restart();
  driver = std::make_unique<Driver>(
      DriverSetup{.context = context,
                  .store = store_,
                  .plan = plan,
                  .rollout = store_.load("fix").value(),
                  .open_session =
                      [this](const std::string&, const StoredRollout&, SessionEvents events) {
                        auto session = std::make_unique<FakeSession>(asked, std::move(events));
                        session->on_ask = [this] {
                          if (on_ask) {
                            on_ask();
                          }
                        };
                        sessions.push_back(session.get());
                        return session;
                      },
                  .now = [this] { return now; },
                  .seed = 1},
      DriverObserver{});
}

void DriverTest::start(const std::optional<rollout::Command>& command) {
  make_driver();
  driver->start(command);
}

void DriverTest::turn() {
  context.restart();
  context.poll();
}

void DriverTest::run_to_end() {
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (!driver->has_ended() && std::chrono::steady_clock::now() < end) {
    context.restart();
    context.run_for(20ms);
  }
  ASSERT_TRUE(driver->has_ended());
}

Asked DriverTest::newest(const std::string& what, rollout::DomainId domain) const {
  const auto found = std::find_if(asked.rbegin(), asked.rend(), [&](const Asked& each) {
    return each.what == what && each.domain == domain;
  });
  EXPECT_NE(found, asked.rend()) << "no " << what << " of " << domain;
  return found == asked.rend() ? Asked{} : *found;
}

std::size_t DriverTest::count(const std::string& what) const {
  return static_cast<std::size_t>(std::ranges::count(asked, what, &Asked::what));
}

void DriverTest::finish(rollout::DomainId domain, const std::string& what, Outcome outcome) {
  sessions.front()->events.answer(rollout::Finished{
      .domain = domain, .operation = newest(what, domain).operation, .outcome = outcome});
}

void DriverTest::looked(rollout::DomainId domain, rollout::Looked::Guest guest) {
  sessions.front()->events.answer(rollout::Looked{
      .domain = domain, .operation = newest("look", domain).operation, .guest = guest});
}

void DriverTest::healthy(rollout::DomainId domain) {
  sessions.front()->events.answer(
      rollout::HealthVerdict{.domain = domain,
                             .operation = newest("health", domain).operation,
                             .health = rollout::HealthVerdict::Health::pass});
}

std::vector<std::string> DriverTest::kinds() const {
  std::vector<std::string> kinds;
  const auto events = open_store().events(id);
  for (const RolloutEvent& event : events.value()) {
    kinds.push_back(event.kind);
  }
  return kinds;
}

void DriverTest::sql(const std::string& text) const {
  SQLite::Database database(file().string(), SQLite::OPEN_READWRITE);
  database.exec(text);
}

}  // namespace vpatch::fleet

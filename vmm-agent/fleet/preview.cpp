// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/preview.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>

#include "vmm-agent/fleet/driver.h"
#include "vmm-agent/fleet/serve_session.h"

namespace vpatch::fleet {
namespace {

constexpr std::chrono::milliseconds kTurn{100};

/// One host, and its domains that are still to be asked about.
struct Host {
  std::unique_ptr<ServeSession> session{};
  std::deque<rollout::DomainId> waiting{};
  std::vector<rollout::DomainId> at_work{};
  bool up = false;
  bool lost = false;
};

class Previews {
 public:
  Previews(const rollout::Plan& plan, const Gathered& gathered,
           const std::function<void(const Preview&)>& tell)
      : plan_(plan), tell_(tell), executor_(context_.get_executor()) {
    rollout_.begin = gathered.rollout;
    for (const LivepatchFile& file : gathered.files) {
      files_.emplace(file.sha256, file.bytes);
    }
  }

  Result<void> connect(const std::string& vpatch) {
    for (const std::string& connection : connections_of(rollout_)) {
      auto command = host_command(connection, vpatch);
      if (!command) {
        return std::unexpected(std::move(command.error()));
      }
      Host& host = hosts_[connection];
      SessionEvents events;
      events.up = [&host] { host.up = true; };
      events.lost = [this, &host](const std::string& why) { lose(host, why); };
      events.progress = [](rollout::DomainId, std::string_view, const std::string&) {};
      host.session = std::make_unique<ServeSession>(
          executor_, *command, plan_, rollout_,
          FileAccess{.read = [this](const std::string& sha256) { return read(sha256); },
                     .keep = {}},
          std::move(events));
      host.session->connect();
    }
    for (rollout::DomainId id = 0; id < rollout_.begin.domains.size(); ++id) {
      const RolloutDomain& domain = rollout_.begin.domains[id];
      if (domain.record.state == rollout::DomainState::waiting) {
        hosts_.at(domain.connection).waiting.push_back(id);
      }
    }
    return {};
  }

  /// Whether there is more to come.
  bool turn() {
    for (auto& [connection, host] : hosts_) {
      while (host.up && !host.lost && !host.waiting.empty() && asked_ < plan_.limits.parallel &&
             host.at_work.size() < plan_.limits.parallel_per_connection) {
        ask(host);
      }
    }
    context_.restart();
    context_.run_for(kTurn);
    return std::ranges::any_of(hosts_, [](const auto& each) {
      return !each.second.waiting.empty() || !each.second.at_work.empty();
    });
  }

  void close() {
    for (auto& [connection, host] : hosts_) {
      host.session->close();
    }
  }

 private:
  Result<std::vector<std::byte>> read(const std::string& sha256) const {
    const auto found = files_.find(sha256);
    return found == files_.end() ? fail(Outcome::internal, "no such file")
                                 : Result<std::vector<std::byte>>(found->second);
  }

  void ask(Host& host) {
    const rollout::DomainId id = host.waiting.front();
    host.waiting.pop_front();
    host.at_work.push_back(id);
    ++asked_;
    host.session->preview(id, [this, &host, id](const VerbAnswer& answer) {
      std::erase(host.at_work, id);
      --asked_;
      tell_({id, answer});
    });
  }

  void lose(Host& host, const std::string& why) {
    host.lost = true;
    asked_ -= host.at_work.size();
    for (const rollout::DomainId id : host.at_work) {
      tell_({id, {.outcome = Outcome::unreachable, .text = why}});
    }
    for (const rollout::DomainId id : host.waiting) {
      tell_({id, {.outcome = Outcome::unreachable, .text = why}});
    }
    host.at_work.clear();
    host.waiting.clear();
  }

  const rollout::Plan& plan_;
  const std::function<void(const Preview&)>& tell_;
  StoredRollout rollout_;
  std::map<std::string, std::vector<std::byte>> files_;
  std::size_t asked_ = 0;
  boost::asio::io_context context_;
  boost::asio::any_io_executor executor_;
  std::map<std::string, Host> hosts_;
};

}  // namespace

Result<void> preview(const rollout::Plan& plan, const Gathered& gathered, const std::string& vpatch,
                     const std::stop_token& stop, const std::function<void(const Preview&)>& tell) {
  Previews previews(plan, gathered, tell);
  if (auto done = previews.connect(vpatch); !done) {
    return done;
  }
  while (previews.turn()) {
    if (stop.stop_requested()) {
      previews.close();
      return fail(Outcome::refused, "interrupted; no guest was touched");
    }
  }
  previews.close();
  return {};
}

}  // namespace vpatch::fleet

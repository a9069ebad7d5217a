// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/domain_watch.h"

#include <algorithm>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "vmm-agent/serve/protocol.h"

namespace vpatch::exporter {

namespace asio = boost::asio;

DomainWatch::DomainWatch(asio::io_context& context, asio::thread_pool& pool, WatchSetup setup)
    : context_(context), pool_(pool), setup_(std::move(setup)), timer_(context) {}

DomainWatch::~DomainWatch() {
  for (const auto& [key, look] : looks_) {
    look->abandon();
  }
}

void DomainWatch::start() {
  next_round();
}

void DomainWatch::next_round() {
  for (const std::string& connection : setup_.connections) {
    if (listing_.insert(connection).second) {
      ask_list(connection);
    }
  }
  timer_.expires_after(setup_.interval);
  // Not cancelled any more once it is due.
  timer_.async_wait(
      [this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& ec) {
        if (!ec && !alive.expired()) {
          next_round();
        }
      });
}

void DomainWatch::ask_list(const std::string& connection) {
  asio::post(pool_, [this, connection, list = setup_.list, &context = context_,
                     alive = std::weak_ptr<bool>(alive_)] {
    auto listed = list(connection);
    asio::post(context, [this, connection, alive, listed = std::move(listed)] {
      if (!alive.expired()) {
        take_list(connection, listed);
      }
    });
  });
}

void DomainWatch::take_list(const std::string& connection,
                            const Result<std::vector<ListedDomain>>& listed) {
  listing_.erase(connection);
  std::map<DomainKey, std::string> running;
  if (listed) {
    for (const ListedDomain& domain : *listed) {
      running.emplace(DomainKey{connection, domain.identity}, serve::printable(domain.name));
    }
    std::erase_if(domains_, [&](const auto& entry) {
      return entry.first.first == connection && !running.contains(entry.first);
    });
  } else {
    setup_.on_error("list", listed.error().what);
  }
  for (const auto& [key, name] : running) {
    domains_[key].name = name;
  }
  for (const auto& [key, domain] : domains_) {
    if (key.first == connection && !looks_.contains(key) &&
        std::ranges::find(queue_, key) == queue_.end()) {
      queue_.push_back(key);
    }
  }
  start_looks();
}

void DomainWatch::start_looks() {
  while (awaited_ < setup_.parallel && !queue_.empty()) {
    const DomainKey key = queue_.front();
    queue_.pop_front();
    if (domains_.contains(key)) {
      start_look(key);
    }
  }
}

void DomainWatch::start_look(const DomainKey& key) {
  auto look = LookProcess::start(
      context_.get_executor(), setup_.program,
      {"vpatch", "status", "--json", "--connect=" + key.first, "--domain=" + key.second},
      setup_.look_limit,
      {.answered =
           [this, key](Result<std::string> printed) {
             --awaited_;
             take_look(key, std::move(printed));
             start_looks();
           },
       .ended = [this, key] { looks_.erase(key); }});
  if (!look) {
    return take_look(key, std::unexpected(std::move(look.error())));
  }
  ++awaited_;
  looks_.emplace(key, *std::move(look));
}

void DomainWatch::take_look(const DomainKey& key, Result<std::string> printed) {
  auto look = printed ? parse_status(*printed) : std::unexpected(std::move(printed.error()));
  const auto found = domains_.find(key);
  if (found == domains_.end()) {
    return;  // it is gone meanwhile
  }
  WatchedDomain& domain = found->second;
  domain.up = look.has_value();
  if (look) {
    domain.look = *std::move(look);
    domain.looked_at = std::chrono::system_clock::now();
  } else if (look.error().outcome == Outcome::internal) {
    setup_.on_error("look", fmt::format("{}: {}", domain.name, look.error().what));
  }
}

}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/dispatcher.h"

#include <algorithm>

namespace vpatch::rollout {

// A limit of 0 would wait for ever.
Dispatcher::Dispatcher(std::size_t connections, std::size_t parallel,
                       std::size_t parallel_per_connection)
    : lines_(connections),
      parallel_(std::max<std::size_t>(parallel, 1)),
      parallel_per_connection_(std::max<std::size_t>(parallel_per_connection, 1)) {}

void Dispatcher::push(ConnectionId connection, Errand errand, std::uint32_t rank, DomainId domain) {
  lines_[connection].places.emplace(errand, rank, domain);
  list(connection);
}

std::optional<DomainId> Dispatcher::pop(Errand last) {
  if (at_work_ >= parallel_ || ready_.empty()) {
    return std::nullopt;
  }
  const auto [place, connection] = *ready_.begin();
  if (std::get<Errand>(place) > last) {
    return std::nullopt;
  }
  lines_[connection].places.pop();
  list(connection);
  return std::get<2>(place);
}

std::vector<DomainId> Dispatcher::drain(ConnectionId connection) {
  std::vector<DomainId> domains;
  auto& places = lines_[connection].places;
  for (; !places.empty(); places.pop()) {
    domains.push_back(std::get<2>(places.top()));
  }
  list(connection);
  return domains;
}

void Dispatcher::clear() {
  for (ConnectionId connection = 0; connection < lines_.size(); ++connection) {
    lines_[connection].places = {};
    list(connection);
  }
}

void Dispatcher::start(ConnectionId connection, DomainId domain) {
  lines_[connection].at_work.push_back(domain);
  ++at_work_;
  list(connection);
}

void Dispatcher::stop(ConnectionId connection, DomainId domain) {
  at_work_ -= std::erase(lines_[connection].at_work, domain);
  list(connection);
}

std::span<const DomainId> Dispatcher::at_work(ConnectionId connection) const {
  return lines_[connection].at_work;
}

void Dispatcher::set_up(ConnectionId connection, bool up) {
  lines_[connection].up = up;
  list(connection);
}

void Dispatcher::list(ConnectionId connection) {
  Line& line = lines_[connection];
  const bool free =
      line.up && !line.places.empty() && line.at_work.size() < parallel_per_connection_;
  const auto listed = free ? std::optional(line.places.top()) : std::nullopt;
  if (listed == line.listed) {
    return;
  }
  if (line.listed) {
    ready_.erase({*line.listed, connection});
  }
  if (listed) {
    ready_.emplace(*listed, connection);
  }
  line.listed = listed;
}

}  // namespace vpatch::rollout

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "vmm-agent/domain/libvirt_domains.h"
#include "vmm-agent/error.h"
#include "vmm-agent/exporter/domain_look.h"
#include "vmm-agent/exporter/look_process.h"

namespace vpatch::exporter {

/// Connection and identity.
using DomainKey = std::pair<std::string, std::string>;

struct WatchedDomain {
  std::string name;
  std::optional<bool> up{};  ///< the last look could read its memory; unset before the first
  DomainLook look{};         ///< of it, when `up`
  std::optional<std::chrono::system_clock::time_point> looked_at{};  ///< when one last could
};

struct WatchSetup {
  std::string program = "/proc/self/exe";  ///< looks: `PROGRAM status --json ...`
  std::vector<std::string> connections{};  ///< libvirt URIs, each once
  std::chrono::milliseconds interval{30'000};
  std::chrono::milliseconds look_limit{20'000};
  std::size_t parallel = 4;  ///< looks at one time
  /// The domains of a connection. Called in a thread of the pool; bounded.
  std::function<Result<std::vector<ListedDomain>>(const std::string& connection)> list{};
  /// What went wrong with a "list" or a "look".
  std::function<void(const std::string& source, const std::string& what)> on_error{};
};

/// Looks at each running domain of some connections each `interval`: a process for each look, a few
/// at a time. A hung one costs its domain's look and, up to `look_limit`, one of the places; no
/// second one is started for that domain before it is gone. Used on the context's one thread.
class DomainWatch {
 public:
  DomainWatch(boost::asio::io_context& context, boost::asio::thread_pool& pool, WatchSetup setup);
  DomainWatch(const DomainWatch&) = delete;
  DomainWatch& operator=(const DomainWatch&) = delete;
  ~DomainWatch();

  void start();
  /// Those that the last list of their connection had; a list that does not come changes nothing.
  const std::map<DomainKey, WatchedDomain>& domains() const { return domains_; }

 private:
  void next_round();
  void ask_list(const std::string& connection);
  void take_list(const std::string& connection, const Result<std::vector<ListedDomain>>& listed);
  void start_looks();
  void start_look(const DomainKey& key);
  void take_look(const DomainKey& key, Result<std::string> printed);

  boost::asio::io_context& context_;
  boost::asio::thread_pool& pool_;
  WatchSetup setup_;
  boost::asio::steady_timer timer_;
  std::map<DomainKey, WatchedDomain> domains_;
  std::set<std::string> listing_;  ///< connections whose list is awaited
  std::deque<DomainKey> queue_;
  std::map<DomainKey, std::shared_ptr<LookProcess>> looks_;  ///< processes that are not gone
  std::size_t awaited_ = 0;                                  ///< of them: not answered yet
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace vpatch::exporter

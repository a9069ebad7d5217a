// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/exporter.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <system_error>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

#include "vmm-agent/exporter/domain_watch.h"
#include "vmm-agent/exporter/journal_figures.h"
#include "vmm-agent/exporter/page.h"
#include "vmm-agent/exporter/page_server.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::exporter {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::seconds kListLimit{10};
constexpr std::size_t kMaxTold = 1000;  ///< warnings
/// For killed processes to go.
constexpr std::chrono::seconds kLastWait{2};

/// What is read of the journal's file at one time.
struct JournalReading {
  Result<void> journal;
  std::optional<Figures> figures;  ///< unset when the journal could not be read
  Result<std::vector<fleet::RolloutLine>> rollouts{};
};

/// Whether libvirt has a QEMU for it, which may be paused. One whose state does not come may hang:
/// it is to be seen as down, not to vanish.
bool has_process(const ListedDomain& domain) {
  return domain.state != RunState::shut_off;
}

Result<std::vector<fleet::RolloutLine>> read_rollouts(const std::filesystem::path& journal) {
  std::error_code ignored;
  if (!std::filesystem::exists(journal, ignored)) {
    return {};  // opening it would make it
  }
  auto store = fleet::RolloutStore::open(journal);
  return store ? store->list() : std::unexpected(std::move(store.error()));
}

class Exporter {
 public:
  explicit Exporter(const ExporterOptions& options)
      : options_(options),
        pool_(options.connections.size() + 1),
        signals_(context_, SIGINT, SIGTERM, SIGHUP),
        journal_timer_(context_),
        figures_(options.journal) {}

  ~Exporter() {
    stop_.request_stop();
    pool_.join();
  }
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  Result<void> run() {
    auto server = PageServer::start(context_, options_.listen, [this] { return page(); });
    if (!server) {
      return std::unexpected(std::move(server.error()));
    }
    signals_.async_wait([this](const error_code&, int) { context_.stop(); });
    watch_.emplace(context_, pool_, watch_setup());
    watch_->start();
    read_journal();
    options_.on_serving((*server)->address());
    context_.run();
    (*server)->close();
    watch_.reset();
    journal_timer_.cancel();
    context_.restart();
    context_.run_for(kLastWait);
    return {};
  }

 private:
  WatchSetup watch_setup() {
    WatchSetup setup;
    setup.connections = options_.connections;
    setup.interval = options_.interval;
    setup.list = [stop = stop_.get_token()](const std::string& connection) {
      auto domains = list_libvirt_domains(connection, {kListLimit, stop});
      if (domains) {
        std::erase_if(*domains, [](const ListedDomain& domain) { return !has_process(domain); });
      }
      return domains;
    };
    setup.on_error = [this](const std::string& source, const std::string& what) {
      count_error(source, what);
    };
    return setup;
  }

  std::string page() const {
    if (!watch_) {
      return "";  // it ends
    }
    return render(metrics_of({.version = options_.version,
                              .domains = watch_->domains(),
                              .figures = shown_ ? &*shown_ : nullptr,
                              .rollouts = rollouts_,
                              .errors = errors_,
                              .now = std::chrono::system_clock::now()}));
  }

  void count_error(const std::string& source, const std::string& what) {
    ++errors_[source];
    if (told_.size() < kMaxTold && told_.insert(what).second) {
      options_.on_warning(what);
    }
  }

  /// In the pool, since it may wait for others who write; one at a time.
  void read_journal() {
    asio::post(pool_, [this] {
      auto reading = std::make_shared<JournalReading>();
      reading->journal = figures_.update();
      if (reading->journal) {
        reading->figures = figures_.figures();
      }
      reading->rollouts = read_rollouts(options_.journal);
      asio::post(context_, [this, reading] { take_journal(*reading); });
    });
  }

  void take_journal(JournalReading& reading) {
    if (reading.journal) {
      shown_ = std::move(reading.figures);
    } else {
      count_error("journal", reading.journal.error().what);
    }
    if (reading.rollouts) {
      rollouts_ = *std::move(reading.rollouts);
    } else {
      count_error("rollouts", reading.rollouts.error().what);
    }
    if (!watch_) {
      return;  // it ends
    }
    journal_timer_.expires_after(options_.interval);
    journal_timer_.async_wait([this](const error_code& ec) {
      if (!ec) {
        read_journal();
      }
    });
  }

  const ExporterOptions& options_;
  asio::io_context context_{1};
  asio::thread_pool pool_;
  std::stop_source stop_;
  asio::signal_set signals_;
  asio::steady_timer journal_timer_;
  JournalFigures figures_;  ///< in the pool
  std::optional<Figures> shown_;
  std::vector<fleet::RolloutLine> rollouts_;
  std::map<std::string, std::uint64_t> errors_{
      {"journal", 0}, {"list", 0}, {"look", 0}, {"rollouts", 0}};
  std::set<std::string> told_;
  std::optional<DomainWatch> watch_;
};

}  // namespace

Result<void> run_exporter(const ExporterOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);  // who asked may be gone
  return Exporter(options).run();
}

}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
// All of it together, but for the VMs.
#include <chrono>
#include <csignal>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/exporter/exposition.h"
#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/exporter/exporter.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::exporter {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// Bound of a wait that only a broken test meets.
constexpr auto kPatience = 60s;

/// An exporter of a journal and no connection, in a thread, until SIGTERM.
class ExporterRunTest : public JournalTest {
 public:
  ~ExporterRunTest() override { (void)end(); }

 protected:
  void start() {
    auto address = serving_.get_future();
    options_.listen.port = 0;
    options_.interval = 1s;
    options_.journal = file();
    options_.on_serving = [this](const ListenAddress& where) { serving_.set_value(where); };
    options_.on_warning = [](const std::string& text) { ADD_FAILURE() << text; };
    result_ = std::async(std::launch::async, [this] { return run_exporter(options_); });
    ASSERT_EQ(address.wait_for(kPatience), std::future_status::ready);
    address_ = address.get();
  }
  /// How it ended.
  Result<void> end() {
    if (!result_.valid()) {
      return {};
    }
    kill(getpid(), SIGTERM);  // which it has taken over
    EXPECT_EQ(result_.wait_for(kPatience), std::future_status::ready);
    return result_.get();
  }

  /// The page, once the journal was read.
  Exposition page() const {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      const std::string text = ask();
      Exposition page = parse_exposition(text.substr(text.find("\r\n\r\n") + 4));
      if (!page.of("vpatch_operations_total").empty() || std::chrono::steady_clock::now() > end) {
        return page;
      }
    }
  }

 private:
  std::string ask() const {
    asio::io_context context;
    asio::ip::tcp::socket socket(context);
    socket.connect({asio::ip::make_address(address_.address), address_.port});
    asio::write(socket, asio::buffer(std::string("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")));
    std::string answer;
    boost::system::error_code ignored;
    asio::read(socket, asio::dynamic_buffer(answer), ignored);
    return answer;
  }

  ExporterOptions options_;
  ListenAddress address_;
  std::promise<ListenAddress> serving_;
  std::future<Result<void>> result_;
};

TEST_F(ExporterRunTest, TellsOfOperationsAndRollouts) {
  {
    Journal journal = open();
    ASSERT_TRUE(journal.end(journal.begin(some_start()).value(), some_end()));
    auto store = fleet::RolloutStore::open(file()).value();
    fleet::NewRollout rollout;
    rollout.name = "cve-2026-1234";
    rollout.plan = "name: cve-2026-1234";
    rollout.domains.push_back({.connection = "qemu:///system", .name = "web01", .identity = "1"});
    const auto created = store.create(rollout);
    ASSERT_TRUE(created) << created.error().what;
  }
  start();
  const Exposition shown = page();
  EXPECT_EQ(
      shown.value("vpatch_operations_total", {{"verb", "apply"}, {"outcome", "stalled-reverted"}}),
      1);
  EXPECT_EQ(
      shown.value("vpatch_rollout_domains", {{"rollout", "cve-2026-1234"}, {"state", "waiting"}}),
      1);
  EXPECT_EQ(shown.value("vpatch_rollout_finished", {{"rollout", "cve-2026-1234"}}), 0);
  EXPECT_GT(shown.value("vpatch_rollout_started_timestamp_seconds", {}), 1.7e9);
}

TEST_F(ExporterRunTest, EndsWhenItIsTold) {
  start();
  EXPECT_TRUE(end());
}

TEST_F(ExporterRunTest, MakesNoJournal) {
  start();
  EXPECT_EQ(page().value("vpatch_operations_total", {{"verb", "apply"}, {"outcome", "done"}}), 0);
  EXPECT_TRUE(end());
  EXPECT_FALSE(std::filesystem::exists(file()));
}

}  // namespace
}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/page_server.h"

#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::exporter {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

/// A server in a thread.
class PageServerTest : public testing::Test {
 public:
  ~PageServerTest() override {
    if (server_) {
      asio::post(context_, [this] { server_->close(); });
    }
    context_.stop();
    thread_.join();
  }

 protected:
  Result<void> start(const std::string& address = "127.0.0.1:0") {
    auto server = PageServer::start(context_, parse_listen_address(address).value(),
                                    [] { return std::string("vpatch_x 1\n"); });
    if (!server) {
      return std::unexpected(server.error());
    }
    server_ = *std::move(server);
    return {};
  }

  /// A connection to the server's port; none where nobody listens.
  std::optional<tcp::socket> connect(const std::string& address) {
    tcp::socket socket(client_);
    boost::system::error_code ec;
    socket.connect({asio::ip::make_address(address), server_->address().port}, ec);
    return ec ? std::nullopt : std::optional(std::move(socket));
  }
  /// All that it answers.
  std::string ask(const std::string& request, const std::string& address = "127.0.0.1") {
    auto socket = connect(address);
    if (!socket) {
      ADD_FAILURE() << "nobody listens";
      return {};
    }
    boost::system::error_code ignored;
    asio::write(*socket, asio::buffer(request), ignored);
    std::string answer;
    asio::read(*socket, asio::dynamic_buffer(answer), ignored);
    return answer;
  }

  asio::io_context context_{1};
  std::shared_ptr<PageServer> server_;

 private:
  asio::executor_work_guard<asio::io_context::executor_type> work_ = make_work_guard(context_);
  asio::io_context client_;
  std::thread thread_{[this] { context_.run(); }};
};

TEST_F(PageServerTest, ServesThePage) {
  ASSERT_TRUE(start());
  const std::string answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 11\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nvpatch_x 1\n"));
  EXPECT_THAT(ask("GET /metrics?a=b HTTP/1.0\r\n\r\n"), EndsWith("vpatch_x 1\n"));
}

TEST_F(PageServerTest, AnswersHeadWithoutThePage) {
  ASSERT_TRUE(start());
  const std::string answer = ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 11\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(PageServerTest, ServesNothingElse) {
  ASSERT_TRUE(start());
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("GET /metrics/x HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
}

TEST_F(PageServerTest, HangsUpOnWhatIsNoRequest) {
  ASSERT_TRUE(start());
  EXPECT_EQ(ask("\x16\x03\x01\r\n\r\n"), "");
  EXPECT_EQ(ask("GET /metrics HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"), "");
  EXPECT_THAT(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("vpatch_x 1\n"));
}

TEST_F(PageServerTest, ListensOnNoOtherAddress) {
  ASSERT_TRUE(start(ListenAddress{.port = 0}.text()));
  EXPECT_TRUE(connect("127.0.0.1"));
  EXPECT_FALSE(connect("127.0.0.2"));
}

TEST_F(PageServerTest, ListensOnIpv6) {
  if (auto done = start("[::1]:0"); !done) {
    GTEST_SKIP() << "no IPv6 here: " << done.error().what;
  }
  EXPECT_THAT(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "::1"), EndsWith("vpatch_x 1\n"));
  EXPECT_FALSE(connect("127.0.0.1"));
}

TEST_F(PageServerTest, SaysThatThePortIsTaken) {
  ASSERT_TRUE(start());
  ListenAddress taken;
  taken.port = server_->address().port;
  asio::io_context other;
  const auto second = PageServer::start(other, taken, [] { return std::string(); });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().outcome, Outcome::unreachable);
  EXPECT_THAT(second.error().what, HasSubstr(taken.text()));
  EXPECT_THAT(second.error().hint, HasSubstr("--listen"));
}

TEST_F(PageServerTest, SaysThatItHasNoSuchAddress) {
  const auto done = start("192.0.2.1:9753");  // of TEST-NET-1
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().outcome, Outcome::unreachable);
}

TEST_F(PageServerTest, AnswersAgainWhenIdleConnectionsAreGone) {
  ASSERT_TRUE(start());
  std::vector<tcp::socket> idle;
  for (std::size_t i = 0; i < PageServer::kMaxConnections; ++i) {
    if (auto socket = connect("127.0.0.1")) {
      idle.push_back(*std::move(socket));
    }
  }
  ASSERT_EQ(idle.size(), PageServer::kMaxConnections);
  idle.clear();
  EXPECT_THAT(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), EndsWith("vpatch_x 1\n"));
}

}  // namespace
}  // namespace vpatch::exporter

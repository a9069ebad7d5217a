// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/page_server.h"

#include <chrono>
#include <string_view>
#include <utility>

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

namespace vpatch::exporter {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::seconds kPatience{10};  ///< for a request, and for its answer to leave
constexpr std::uint32_t kMaxHeader = 8192;
/// Before accept() is tried again: it failed for want of something that may come back.
constexpr std::chrono::seconds kAcceptPause{1};

std::unexpected<Error> cannot_listen(const ListenAddress& listen, const error_code& ec) {
  std::string hint = "Give another address with --listen ADDRESS:PORT.";
  if (ec == asio::error::address_in_use) {
    hint = fmt::format(
        "Another program has the port (`ss -ltnp sport = :{}` shows which): end it, "
        "or give another one with --listen ADDRESS:PORT.",
        listen.port);
  }
  return fail(Outcome::unreachable,
              fmt::format("cannot serve on {}: {}", listen.text(), ec.message()), std::move(hint));
}

http::response<http::string_body> answer_to(const http::request_header<>& request,
                                            const std::function<std::string()>& page) {
  const auto plain = [&](http::status status, const char* text) {
    http::response<http::string_body> response(status, 11);
    response.set(http::field::content_type, "text/plain; charset=utf-8");
    response.body() = text;
    return response;
  };
  const beast::string_view target = request.target();
  if (target.substr(0, target.find('?')) != "/metrics") {
    return plain(http::status::not_found, "The page is /metrics.\n");
  }
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    auto response = plain(http::status::method_not_allowed, "Only GET and HEAD are known.\n");
    response.set(http::field::allow, "GET, HEAD");
    return response;
  }
  http::response<http::string_body> response(http::status::ok, 11);
  response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
  response.body() = page();
  return response;
}

}  // namespace

class PageServer::Session : public std::enable_shared_from_this<PageServer::Session> {
 public:
  Session(tcp::socket socket, std::shared_ptr<PageServer> server)
      : stream_(std::move(socket)), server_(std::move(server)) {
    parser_.header_limit(kMaxHeader);
    parser_.body_limit(0);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    if (server_->connections_-- == kMaxConnections) {
      server_->accept();
    }
  }

  void run() {
    stream_.expires_after(kPatience);
    http::async_read_header(stream_, buffer_, parser_,
                            [self = shared_from_this()](const error_code& ec, std::size_t) {
                              if (!ec) {
                                self->write();
                              }
                            });
  }

 private:
  void write() {
    response_ = answer_to(parser_.get(), server_->page_);
    response_.keep_alive(false);
    response_.set(http::field::cache_control, "no-store");
    response_.prepare_payload();
    if (parser_.get().method() == http::verb::head) {
      response_.body().clear();  // its length stays told
    }
    stream_.expires_after(kPatience);
    http::async_write(stream_, response_,
                      [self = shared_from_this()](const error_code&, std::size_t) {
                        error_code ignored;
                        self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  beast::tcp_stream stream_;
  std::shared_ptr<PageServer> server_;
  beast::flat_buffer buffer_{kMaxHeader};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
};

Result<std::shared_ptr<PageServer>> PageServer::start(asio::io_context& context,
                                                      const ListenAddress& listen,
                                                      std::function<std::string()> page) {
  auto server = std::make_shared<PageServer>(context, std::move(page));
  if (auto done = server->listen(listen); !done) {
    return std::unexpected(std::move(done.error()));
  }
  server->accept();
  return server;
}

Result<void> PageServer::listen(const ListenAddress& listen) {
  error_code ec;
  const tcp::endpoint endpoint(asio::ip::make_address(listen.address, ec), listen.port);
  if (!ec) {
    acceptor_.open(endpoint.protocol(), ec);
  }
  if (!ec) {
    acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  }
  if (!ec && listen.ipv6) {
    acceptor_.set_option(asio::ip::v6_only(true), ec);  // [::] is what it says, and no more
  }
  if (!ec) {
    acceptor_.bind(endpoint, ec);
  }
  if (!ec) {
    acceptor_.listen(tcp::acceptor::max_listen_connections, ec);
  }
  if (ec) {
    return cannot_listen(listen, ec);
  }
  address_ = listen;
  address_.port = acceptor_.local_endpoint(ec).port();
  return {};
}

void PageServer::accept() {
  if (!acceptor_.is_open()) {
    return;
  }
  acceptor_.async_accept([self = shared_from_this()](const error_code& ec, tcp::socket socket) {
    if (ec == asio::error::operation_aborted || !self->acceptor_.is_open()) {
      return;
    }
    if (ec) {
      auto timer =
          std::make_shared<asio::steady_timer>(self->acceptor_.get_executor(), kAcceptPause);
      timer->async_wait([self, timer](const error_code&) { self->accept(); });
      return;
    }
    ++self->connections_;
    std::make_shared<Session>(std::move(socket), self)->run();
    if (self->connections_ < kMaxConnections) {
      self->accept();
    }
  });
}

void PageServer::close() {
  error_code ignored;
  acceptor_.close(ignored);
}

}  // namespace vpatch::exporter

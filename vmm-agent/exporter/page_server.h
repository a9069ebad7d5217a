// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "vmm-agent/error.h"
#include "vmm-agent/exporter/listen_address.h"

namespace vpatch::exporter {

/// Answers GET /metrics over HTTP, without authentication or encryption: one request a connection.
/// Connections are few (kMaxConnections) and short (10 s); nobody can hold the page up for longer.
/// Used on the context's one thread.
class PageServer : public std::enable_shared_from_this<PageServer> {
 public:
  static constexpr std::size_t kMaxConnections = 32;

  /// `page` makes the page, on the context's thread. Outcome::unreachable when the address cannot
  /// be had, with what to do.
  static Result<std::shared_ptr<PageServer>> start(boost::asio::io_context& context,
                                                   const ListenAddress& listen,
                                                   std::function<std::string()> page);

  PageServer(boost::asio::io_context& context, std::function<std::string()> page)
      : acceptor_(context), page_(std::move(page)) {}

  /// The address with the port that it has.
  const ListenAddress& address() const { return address_; }
  /// Takes no more connections.
  void close();

 private:
  class Session;

  Result<void> listen(const ListenAddress& listen);
  void accept();

  boost::asio::ip::tcp::acceptor acceptor_;
  std::function<std::string()> page_;
  ListenAddress address_;
  std::size_t connections_ = 0;
};

}  // namespace vpatch::exporter

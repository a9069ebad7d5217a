// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/listen_address.h"

#include <charconv>
#include <memory>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

namespace vpatch::exporter {

std::string ListenAddress::text() const {
  return ipv6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

Result<ListenAddress> parse_listen_address(std::string_view text) {
  const auto wrong = [text] {
    return fail(Outcome::usage,
                fmt::format("{} is no numeric address and port, such as 127.0.0.1:9753 or "
                            "[::1]:9753",
                            text));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return wrong();
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  }
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(host, ec);
  if (ec || address.is_v6() != bracketed) {
    return wrong();
  }
  const std::string_view digits = text.substr(colon + 1);
  ListenAddress listen{
      .address = std::string(host), .ipv6 = address.is_v6(), .loopback = address.is_loopback()};
  const char* const end = std::to_address(digits.end());
  const auto [rest, error] = std::from_chars(std::to_address(digits.begin()), end, listen.port);
  return digits.empty() || error != std::errc() || rest != end ? wrong()
                                                               : Result<ListenAddress>(listen);
}

}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm-agent/error.h"

namespace vpatch::exporter {

/// Where a page is served: a numeric IP address and a TCP port.
struct ListenAddress {
  std::string address = "127.0.0.1";  ///< without brackets
  std::uint16_t port = 9753;          ///< 0: any free one
  bool ipv6 = false;
  bool loopback = true;  ///< only this host reaches it

  /// "127.0.0.1:9753", "[::1]:9753"
  std::string text() const;
};

/// "127.0.0.1:9753" or "[::1]:9753". No part may be left out: an address that others can reach is
/// never meant by accident. Outcome::usage.
Result<ListenAddress> parse_listen_address(std::string_view text);

}  // namespace vpatch::exporter

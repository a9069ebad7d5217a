// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include <boost/json.hpp>

#include "qmp/error.h"

namespace vpatch::qmp {

/// Something QEMU told without being asked.
struct Event {
  std::string name;
  boost::json::object data;
  /// QEMU's host clock since the Unix epoch; zero when QEMU could not read its clock.
  std::chrono::microseconds timestamp{};
};

/// Reads an event message, and moves its data out. Errc::protocol when it is not one.
Result<Event> parse_event(boost::json::object& message);

}  // namespace vpatch::qmp

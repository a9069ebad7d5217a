// SPDX-License-Identifier: Apache-2.0
#pragma once

// Private to the library.

#include <functional>

namespace boost::asio {
class any_io_executor;
}

namespace vpatch::qmp {

/// asio::post(), compiled once and not for each type of handler.
void run_later(const boost::asio::any_io_executor& executor,
               std::move_only_function<void()> handler);

}  // namespace vpatch::qmp

// SPDX-License-Identifier: Apache-2.0
#include "qmp/executor.h"

#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>

namespace vpatch::qmp {

void run_later(const boost::asio::any_io_executor& executor,
               std::move_only_function<void()> handler) {
  boost::asio::post(executor, std::move(handler));
}

}  // namespace vpatch::qmp

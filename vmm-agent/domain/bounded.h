// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <utility>

namespace vpatch {

/// Runs a blocking call that knows no deadline in a thread of its own, and waits for its value, for
/// `limit`, or for `stop`, whichever comes first; the latter two return nothing. The call then goes
/// on by itself and its value is destroyed when it ends, so it must own all it uses. The call must
/// not throw.
template <class Call>
auto bounded(Call call, std::chrono::milliseconds limit, const std::stop_token& stop)
    -> std::optional<std::invoke_result_t<Call&>> {
  struct Shared {
    std::mutex mutex;
    std::condition_variable_any done;
    std::optional<std::invoke_result_t<Call&>> value;
  };
  auto shared = std::make_shared<Shared>();
  std::thread([shared, work = std::move(call)]() mutable {
    auto value = work();
    const std::scoped_lock lock(shared->mutex);
    shared->value = std::move(value);
    shared->done.notify_all();
  }).detach();
  std::unique_lock lock(shared->mutex);
  shared->done.wait_for(lock, stop, limit, [&shared] { return shared->value.has_value(); });
  return std::move(shared->value);
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/libvirt_stop_watch.h"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>

#include "vmm-agent/domain/bounded.h"
#include "vmm-agent/domain/stop_times.h"

namespace vpatch {
namespace {

constexpr std::chrono::seconds kDeregisterTimeout{5};

ConnectionHandle another_reference(virConnectPtr connection) {
  virConnectRef(connection);
  return ConnectionHandle(connection);
}

}  // namespace

struct LibvirtStopWatch::State {
  std::mutex mutex;
  std::condition_variable_any changed;
  StopTimes times;  ///< guarded by `mutex`

  static void on_event(virConnectPtr, virDomainPtr, const char* event, long long seconds,
                       unsigned int micros, const char*, void* opaque) {
    State& state = **static_cast<std::shared_ptr<State>*>(opaque);
    constexpr long long kMaxSeconds = 1LL << 40;
    const bool stamped = seconds > 0 && seconds < kMaxSeconds && micros < 1'000'000;
    const auto stamp = stamped ? std::chrono::seconds(seconds) + std::chrono::microseconds(micros)
                               : std::chrono::microseconds(0);
    const std::scoped_lock lock(state.mutex);
    state.times.note(event, stamp);
    state.changed.notify_all();
  }

  static void on_free(void* opaque) {
    const std::unique_ptr<std::shared_ptr<State>> owned(
        static_cast<std::shared_ptr<State>*>(opaque));
  }
};

Result<LibvirtStopWatch> LibvirtStopWatch::start(virConnectPtr connection, virDomainPtr domain,
                                                 const qmp::CallOptions& options) {
  struct Registered {
    int callback;
    LibvirtError error;
  };
  auto state = std::make_shared<State>();
  virDomainRef(domain);
  const auto registered = bounded(
      [connection = another_reference(connection), domain = DomainHandle(domain), state] {
        auto opaque = std::make_unique<std::shared_ptr<State>>(state);
        const int callback = virConnectDomainQemuMonitorEventRegister(
            connection.get(), domain.get(), "^(STOP|RESUME)$", State::on_event, opaque.get(),
            State::on_free, VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
        if (callback >= 0) {
          opaque.release();  // NOLINT(bugprone-unused-return-value): on_free() has it
        }
        return Registered{callback, last_libvirt_error()};
      },
      options.timeout, options.stop);
  if (!registered) {
    return fail(Outcome::unreachable, "watch for STOP and RESUME: libvirt does not answer");
  }
  if (registered->callback < 0) {
    return fail(Outcome::unreachable,
                fmt::format("watch for STOP and RESUME: {}", registered->error.text));
  }
  return LibvirtStopWatch(another_reference(connection), std::move(state), registered->callback);
}

LibvirtStopWatch::~LibvirtStopWatch() {
  if (connection_ != nullptr) {
    bounded(
        [connection = std::move(connection_), callback = callback_] {
          return virConnectDomainQemuMonitorEventDeregister(connection.get(), callback);
        },
        kDeregisterTimeout, {});
  }
}

void LibvirtStopWatch::forget() {
  const std::scoped_lock lock(state_->mutex);
  state_->times = StopTimes(StopTimes::now());
}

void LibvirtStopWatch::asking() {
  const std::scoped_lock lock(state_->mutex);
  state_->times.asking(StopTimes::now());
}

bool LibvirtStopWatch::resumed_by_others() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->times.resumed_by_others();
}

Result<std::chrono::microseconds> LibvirtStopWatch::stopped_for(const qmp::CallOptions& options) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(lock, options.stop, options.timeout,
                           [this] { return state_->times.complete(); });
  const auto length = state_->times.length();
  return length ? Result<std::chrono::microseconds>(*length)
                : fail(Outcome::unreachable, "no STOP and RESUME events with sound times came");
}

}  // namespace vpatch

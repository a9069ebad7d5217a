// SPDX-License-Identifier: Apache-2.0
// A plain QEMU process, reached through its monitor and agent sockets.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "qmp/message.h"
#include "qmp/socket_channel.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/stop_times.h"

namespace vpatch {
namespace {

namespace json = boost::json;

std::string string_field(const json::value& reply, std::string_view key) {
  const auto* object = reply.if_object();
  const auto* field = object != nullptr ? object->if_contains(key) : nullptr;
  const auto* text = field != nullptr ? field->if_string() : nullptr;
  return text != nullptr ? std::string(*text) : std::string();
}

/// A file name made of a path, for VMs that have no UUID.
std::string identity_from_path(const std::string& path) {
  std::error_code ignored;
  std::string identity = "qmp" + std::filesystem::weakly_canonical(path, ignored).string();
  for (char& c : identity) {
    c = c == '/' ? '-' : c;
  }
  return identity;
}

bool is_nil_uuid(std::string_view uuid) {
  return uuid.find_first_not_of("0-") == std::string_view::npos;
}

class QemuDomain final : public Domain {
 public:
  QemuDomain(std::string qmp_path, std::string qga_path,
             std::unique_ptr<qmp::MonitorChannel> monitor)
      : qmp_path_(std::move(qmp_path)),
        qga_path_(std::move(qga_path)),
        monitor_(std::move(monitor)) {}

  Result<void> learn_names(const qmp::CallOptions& options) {
    auto name = monitor_->execute("query-name", {}, options);
    if (!name) {
      return std::unexpected(from_qmp(name.error()).in_context(qmp_path_));
    }
    auto uuid = monitor_->execute("query-uuid", {}, options);
    if (!uuid) {
      return std::unexpected(from_qmp(uuid.error()).in_context(qmp_path_));
    }
    name_ = string_field(*name, "name");
    if (name_.empty()) {
      name_ = qmp_path_;
    }
    const std::string id = string_field(*uuid, "UUID");
    identity_ = is_nil_uuid(id) ? identity_from_path(qmp_path_) : id;
    return {};
  }

  const std::string& name() const override { return name_; }
  const std::string& identity() const override { return identity_; }

  Result<RunState> run_state(const qmp::CallOptions& options) override {
    const auto status = query_status(options);
    if (!status) {
      return std::unexpected(status.error());
    }
    if (*status == "running") {
      return RunState::running;
    }
    if (*status == "paused") {  // exactly what `stop` makes of "running"
      return RunState::paused;
    }
    if (*status == "shutdown") {
      return RunState::shut_off;
    }
    if (*status == "guest-panicked" || *status == "internal-error") {
      return RunState::crashed;
    }
    return status->empty() ? RunState::other : RunState::held;
  }

  Result<void> pause(const qmp::CallOptions& options) override { return command("stop", options); }

  Result<void> resume(const qmp::CallOptions& options) override {
    const auto status = query_status(options);
    if (!status) {
      return std::unexpected(status.error());
    }
    if (*status == "running") {
      return {};
    }
    if (*status != "paused") {
      return fail(Outcome::unreachable,
                  fmt::format("{}: its state is \"{}\", which QEMU itself has to end", name_,
                              qmp::printable(*status, 40)));
    }
    stops_.asking(StopTimes::now());
    return command("cont", options);
  }

  void watch_stops(const qmp::CallOptions&) override {
    monitor_->take_events();
    stops_ = StopTimes();
  }

  Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions& options) override {
    if (!stops_.complete()) {
      const auto resumed = monitor_->wait_event(
          [this](const qmp::Event& event) {
            stops_.note(event.name, event.timestamp);
            return stops_.complete();
          },
          options);
      if (!resumed) {
        return fail(Outcome::unreachable, fmt::format("{}: {}", name_, resumed.error().what));
      }
    }
    const auto length = stops_.length();
    return length ? Result<std::chrono::microseconds>(*length)
                  : fail(Outcome::unreachable,
                         fmt::format("{}: STOP and RESUME have no sound times", name_));
  }

  /// A monitor tells events and replies in order: those before the last reply have come.
  bool resumed_by_others() override {
    for (const qmp::Event& event : monitor_->take_events()) {
      stops_.note(event.name, event.timestamp);
    }
    return stops_.resumed_by_others();
  }

  Result<qmp::Channel*> monitor() override { return monitor_.get(); }

  Result<qmp::Channel*> agent(const qmp::CallOptions& options) override {
    if (agent_ == nullptr) {
      if (qga_path_.empty()) {
        return fail(Outcome::usage, fmt::format("{}: the guest agent's socket is needed", name_),
                    "Name it with --qga PATH.");
      }
      auto channel = qmp::AgentChannel::connect(qga_path_, options);
      if (!channel) {
        return std::unexpected(from_qmp(channel.error()).in_context(name_));
      }
      agent_ = std::move(*channel);
    }
    return agent_.get();
  }

  Result<pid_t> vmm_pid() override {
    // The credentials of a connected socket are those of the process that listens: QEMU itself.
    introspect::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (qmp_path_.size() < sizeof address.sun_path) {
      std::memcpy(address.sun_path, qmp_path_.c_str(), qmp_path_.size() + 1);
    }
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API
    if (!fd ||
        connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
      return fail(Outcome::unreachable,
                  fmt::format("{}: the process behind {} is unknown: {}", name_, qmp_path_,
                              std::generic_category().message(errno)));
    }
    return peer.pid;
  }

 private:
  Result<std::string> query_status(const qmp::CallOptions& options) {
    auto reply = monitor_->execute("query-status", {}, options);
    if (!reply) {
      return std::unexpected(from_qmp(reply.error()).in_context(name_));
    }
    return string_field(*reply, "status");
  }

  Result<void> command(std::string_view name, const qmp::CallOptions& options) {
    if (auto reply = monitor_->execute(name, {}, options); !reply) {
      Error error = from_qmp(reply.error()).in_context(name_);
      error.hint.clear();  // it is about the guest agent
      return std::unexpected(std::move(error));
    }
    return {};
  }

  std::string qmp_path_;
  std::string qga_path_;
  std::string name_;
  std::string identity_;
  std::unique_ptr<qmp::MonitorChannel> monitor_;
  StopTimes stops_;
  std::unique_ptr<qmp::Channel> agent_;
};

}  // namespace

Result<std::unique_ptr<Domain>> open_qemu_domain(const std::string& qmp_path,
                                                 const std::string& qga_path,
                                                 const qmp::CallOptions& options) {
  auto monitor = qmp::MonitorChannel::connect(qmp_path, options);
  if (!monitor) {
    return fail(Outcome::unreachable, fmt::format("monitor {}: {}", qmp_path, monitor.error().what),
                "Check that QEMU runs with -qmp unix:PATH,server=on,wait=off and that no other "
                "client holds the monitor.");
  }
  auto domain = std::make_unique<QemuDomain>(qmp_path, qga_path, std::move(*monitor));
  if (auto learned = domain->learn_names(options); !learned) {
    return std::unexpected(learned.error());
  }
  return domain;
}

}  // namespace vpatch

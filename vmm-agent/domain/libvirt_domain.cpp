// SPDX-License-Identifier: Apache-2.0
// A libvirt domain; monitor and agent through libvirt's pass-through calls.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>

#include "qmp/message.h"
#include "vmm-agent/domain/bounded.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/libvirt_connection.h"
#include "vmm-agent/domain/libvirt_stop_watch.h"

namespace vpatch {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kLibvirtSlack{10};
constexpr std::size_t kMaxReplyBytes = std::size_t{16} << 20;

struct FreeString {
  void operator()(char* text) const {
    std::free(text);
  }  // NOLINT(cppcoreguidelines-no-malloc): libvirt's API
};
using LibvirtString = std::unique_ptr<char, FreeString>;

qmp::Error from_libvirt(const LibvirtError& error, std::string_view command) {
  qmp::Error result{.code = qmp::Errc::closed,
                    .what = fmt::format("{}: {}", command, qmp::printable(error.text, 400))};
  switch (error.code) {
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
    case VIR_ERR_OPERATION_TIMEOUT:
      result.code = qmp::Errc::timeout;
      break;
    case VIR_ERR_INTERNAL_ERROR:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_OPERATION_FAILED:
      // libvirt reports an error reply of the agent as a text of its own; the class is lost.
      if (error.text.find("agent command") != std::string::npos ||
          error.text.find("monitor command") != std::string::npos) {
        result.code = qmp::Errc::command;
        const bool unknown = error.text.find("has been disabled") != std::string::npos ||
                             error.text.find("not been found") != std::string::npos ||
                             error.text.find("not allowed") != std::string::npos;
        result.error_class = unknown ? "CommandNotFound" : "GenericError";
      }
      break;
    default:
      break;
  }
  return result;
}

/// Takes {"return": ...} or {"error": ...} apart.
qmp::Result<json::value> parse_reply(std::string_view text, std::string_view command) {
  if (text.size() > kMaxReplyBytes) {
    return std::unexpected(qmp::Error{qmp::Errc::too_large,
                                      fmt::format("{}: reply of {} bytes", command, text.size())});
  }
  boost::system::error_code error;
  json::value reply = json::parse(text, error);
  auto* object = error ? nullptr : reply.if_object();
  if (object == nullptr) {
    return std::unexpected(qmp::Error{qmp::Errc::protocol,
                                      fmt::format("{}: the reply is not a JSON object", command)});
  }
  if (auto* value = object->if_contains("return"); value != nullptr) {
    return std::move(*value);
  }
  qmp::Error failure{qmp::Errc::protocol, fmt::format("{}: the reply has no \"return\"", command)};
  if (const auto* details = object->if_contains("error");
      details != nullptr && details->is_object()) {
    const auto& fields = details->get_object();
    const auto text_of = [&fields](std::string_view key) {
      const auto* field = fields.if_contains(key);
      return field != nullptr && field->is_string() ? qmp::printable(field->get_string())
                                                    : std::string();
    };
    failure = qmp::Error{qmp::Errc::command, fmt::format("{}: {}", command, text_of("desc")),
                         text_of("class")};
  }
  return std::unexpected(std::move(failure));
}

/// One of the two pass-through channels. libvirt does the agent's sync handshake and matches
/// replies.
class LibvirtChannel final : public qmp::Channel {
 public:
  enum class Kind : std::uint8_t { monitor, agent };

  LibvirtChannel(virDomainPtr domain, Kind kind) : domain_(domain), kind_(kind) {}

  qmp::Result<json::value> execute(std::string_view command, json::object arguments,
                                   const qmp::CallOptions& options) override {
    if (options.stop.stop_requested()) {
      return std::unexpected(
          qmp::Error{qmp::Errc::cancelled, fmt::format("{}: interrupted", command)});
    }
    json::object request{{"execute", command}};
    if (!arguments.empty()) {
      request["arguments"] = std::move(arguments);
    }
    const std::string text = json::serialize(request);
    virDomainRef(domain_);
    // libvirt has a deadline of its own for the agent; ours, a little later, is for libvirt itself.
    const auto slack = kind_ == Kind::agent ? kLibvirtSlack : std::chrono::seconds(0);
    auto reply = bounded(
        [kind = kind_, domain = DomainHandle(domain_), text, timeout = options.timeout] {
          LibvirtString json(kind == Kind::agent ? call_agent(domain.get(), text, timeout)
                                                 : call_monitor(domain.get(), text));
          return Reply{std::move(json), last_libvirt_error()};
        },
        options.timeout + slack, options.stop);
    if (!reply) {
      const bool stopped = options.stop.stop_requested();
      return std::unexpected(qmp::Error{
          stopped ? qmp::Errc::cancelled : qmp::Errc::timeout,
          fmt::format("{}: {}", command, stopped ? "interrupted" : "libvirt does not answer")});
    }
    if (reply->json == nullptr) {
      return std::unexpected(from_libvirt(reply->error, command));
    }
    return parse_reply(reply->json.get(), command);
  }

 private:
  struct Reply {
    LibvirtString json;
    LibvirtError error;
  };

  static char* call_agent(virDomainPtr domain, const std::string& request,
                          std::chrono::milliseconds timeout) {
    const auto seconds = std::max<std::int64_t>(1, (timeout.count() + 999) / 1000);
    return virDomainQemuAgentCommand(domain, request.c_str(),
                                     static_cast<int>(std::min<std::int64_t>(seconds, 3600)), 0);
  }
  static char* call_monitor(virDomainPtr domain, const std::string& request) {
    char* reply = nullptr;
    virDomainQemuMonitorCommand(domain, request.c_str(), &reply, 0);
    return reply;
  }

  virDomainPtr domain_;
  Kind kind_;
};

class LibvirtDomain final : public Domain {
 public:
  LibvirtDomain(ConnectionHandle connection, DomainHandle domain, std::string uuid)
      : connection_(std::move(connection)),
        domain_(std::move(domain)),
        name_(virDomainGetName(domain_.get())),
        uuid_(std::move(uuid)),
        monitor_(domain_.get(), LibvirtChannel::Kind::monitor),
        agent_(domain_.get(), LibvirtChannel::Kind::agent) {}

  const std::string& name() const override { return name_; }
  const std::string& identity() const override { return uuid_; }

  Result<RunState> run_state(const qmp::CallOptions& options) override {
    struct State {
      int result = -1, state = 0, reason = 0;
      LibvirtError error;
    };
    virDomainRef(domain_.get());
    const auto seen = bounded(
        [domain = DomainHandle(domain_.get())] {
          State state;
          state.result = virDomainGetState(domain.get(), &state.state, &state.reason, 0);
          state.error = last_libvirt_error();
          return state;
        },
        options.timeout, {});
    if (!seen || seen->result != 0) {
      return fail(
          Outcome::unreachable,
          fmt::format("{}: {}", name_, seen ? seen->error.text : "state: libvirt does not answer"));
    }
    return to_run_state(seen->state, seen->reason);
  }

  Result<void> pause(const qmp::CallOptions& options) override {
    return call("pause", virDomainSuspend, options);
  }

  Result<void> resume(const qmp::CallOptions& options) override {
    if (stop_watch_) {
      stop_watch_->asking();
    }
    // It is for libvirt to say which stops may be ended: it knows of its own migrations.
    auto resumed = call("resume", virDomainResume, options);
    if (!resumed && !options.stop.stop_requested()) {
      // libvirt refuses to resume what runs.
      if (auto state = run_state(options); state && *state == RunState::running) {
        return {};
      }
    }
    return resumed;
  }

  void watch_stops(const qmp::CallOptions& options) override {
    if (stop_watch_) {
      stop_watch_->forget();
      return;
    }
    if (auto watch = LibvirtStopWatch::start(connection_.get(), domain_.get(), options); watch) {
      stop_watch_.emplace(*std::move(watch));
    } else {
      no_stop_watch_ = std::move(watch.error().what);
    }
  }

  Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions& options) override {
    if (!stop_watch_) {
      return fail(Outcome::unreachable, fmt::format("{}: {}", name_, no_stop_watch_));
    }
    auto length = stop_watch_->stopped_for(options);
    return length ? length : std::unexpected(std::move(length.error()).in_context(name_));
  }

  bool resumed_by_others() override { return stop_watch_ && stop_watch_->resumed_by_others(); }

  Result<qmp::Channel*> monitor() override { return &monitor_; }
  Result<qmp::Channel*> agent(const qmp::CallOptions&) override { return &agent_; }

  Result<pid_t> vmm_pid() override {
    const std::string path = fmt::format("/run/libvirt/qemu/{}.pid", name_);
    std::ifstream file(path);
    pid_t pid = 0;
    if (!(file >> pid) || pid <= 0) {
      return fail(Outcome::unreachable, fmt::format("{}: no process id in {}", name_, path),
                  "Run vpatch as root on the host where the VM runs.");
    }
    // The file may be of another host's or another user's domain of the same name.
    std::ifstream words(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
    const std::string cmdline((std::istreambuf_iterator<char>(words)),
                              std::istreambuf_iterator<char>());
    if (cmdline.find(uuid_) == std::string::npos) {
      return fail(
          Outcome::unreachable,
          fmt::format("{}: process {} is not the one that runs it", name_, pid),
          "Guest memory can only be read on the host where the VM runs, through qemu:///system.");
    }
    return pid;
  }

 private:
  Result<void> call(std::string_view verb, int (*function)(virDomainPtr),
                    const qmp::CallOptions& options) {
    virDomainRef(domain_.get());
    auto error = bounded(
        [function, domain = DomainHandle(domain_.get())]() -> std::optional<LibvirtError> {
          return function(domain.get()) == 0 ? std::nullopt : std::optional(last_libvirt_error());
        },
        options.timeout, options.stop);
    if (!error) {
      return options.stop.stop_requested()
                 ? fail(Outcome::refused, "interrupted")
                 : fail(Outcome::unreachable,
                        fmt::format("{}: {}: libvirt does not answer", name_, verb));
    }
    if (*error) {
      return fail(Outcome::unreachable, fmt::format("{}: {}: {}", name_, verb, (*error)->text));
    }
    return {};
  }

  ConnectionHandle connection_;
  DomainHandle domain_;
  std::string name_;
  std::string uuid_;
  LibvirtChannel monitor_;
  LibvirtChannel agent_;
  std::optional<LibvirtStopWatch> stop_watch_;
  std::string no_stop_watch_ = "nobody watches for STOP and RESUME";
};

}  // namespace

Result<std::unique_ptr<Domain>> open_libvirt_domain(const std::string& uri, const std::string& name,
                                                    const qmp::CallOptions& options) {
  auto connection = open_connection(uri, options);
  if (!connection) {
    return std::unexpected(connection.error());
  }
  auto domain = find_domain(connection->get(), uri, name);
  if (!domain) {
    return std::unexpected(domain.error());
  }
  std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
  if (virDomainGetUUIDString(domain->get(), uuid.data()) != 0) {
    return fail(Outcome::unreachable, fmt::format("{}: {}", name, last_libvirt_error().text));
  }
  return std::make_unique<LibvirtDomain>(std::move(*connection), *std::move(domain), uuid.data());
}

}  // namespace vpatch

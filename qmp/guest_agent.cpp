// SPDX-License-Identifier: Apache-2.0
#include "qmp/guest_agent.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "qmp/agent_reply.h"
#include "qmp/base64.h"
#include "qmp/message.h"

namespace vpatch::qmp {
namespace {

namespace json = boost::json;

// Bytes of a file in one command; a multiple of 3, so that no chunk but the last is padded. As
// base64 it is 32 KiB. Larger ones gain nothing, for the agent takes 4 KiB at a time whatever the
// size, and libvirt 9.0 garbles a message that does not fit into its socket's buffer at once: of 16
// MiB sent in chunks of 192 KiB to a 6.1 guest, some arrived changed every time.
constexpr std::size_t kChunk = std::size_t{24} << 10;

// The agent's reads and writes are whole but for the end of a file, so these are for a strange
// agent.
constexpr int kMaxShortTransfers = 64;

constexpr std::size_t kMaxCommands = 4096;
constexpr std::size_t kMaxNameLength = 256;

// For closing a handle after the call itself failed, and with it perhaps the caller's deadline.
constexpr std::chrono::milliseconds kCleanupTimeout{2000};

/// A file open in the guest. close() tells the outcome; the destructor is the safety net.
class OpenFile {
 public:
  static Result<OpenFile> open(Channel& channel, const std::string& path, std::string_view mode,
                               const CallOptions& options) {
    const auto reply = agent_execute(channel, "guest-file-open",
                                     {{"path", path}, {"mode", json::string_view(mode)}}, options);
    if (!reply) {
      return std::unexpected(reply.error());
    }
    if (!reply->is_int64()) {
      return failed("guest-file-open", Errc::protocol, "the reply is not a handle");
    }
    return OpenFile(channel, reply->get_int64());
  }

  OpenFile(OpenFile&& other) noexcept
      : channel_(std::exchange(other.channel_, nullptr)), handle_(other.handle_) {}
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile() {
    if (channel_ != nullptr) {
      static_cast<void>(close({.timeout = kCleanupTimeout, .stop = {}}));
    }
  }

  std::int64_t handle() const { return handle_; }

  Result<void> close(const CallOptions& options) {
    Channel* channel = std::exchange(channel_, nullptr);
    const auto reply = agent_execute(*channel, "guest-file-close", {{"handle", handle_}}, options);
    return reply ? Result<void>() : std::unexpected(reply.error());
  }

 private:
  OpenFile(Channel& channel, std::int64_t handle) : channel_(&channel), handle_(handle) {}

  Channel* channel_;
  std::int64_t handle_;
};

/// Writes a first part of `data`; how many bytes that was, at least one.
Result<std::size_t> write_some(Channel& channel, const OpenFile& file,
                               std::span<const std::byte> data, const CallOptions& options) {
  constexpr std::string_view kCommand = "guest-file-write";
  const auto chunk = data.first(std::min(data.size(), kChunk));
  const auto reply = agent_object(
      channel, kCommand, {{"handle", file.handle()}, {"buf-b64", base64_encode(chunk)}}, options);
  if (!reply) {
    return std::unexpected(reply.error());
  }
  const auto count = int_member(*reply, "count", 1, static_cast<std::int64_t>(chunk.size()));
  if (!count) {
    return failed(kCommand, count.error());
  }
  return static_cast<std::size_t>(*count);
}

struct Piece {
  std::string bytes;
  bool end = false;
};

Result<Piece> read_some(Channel& channel, const OpenFile& file, std::size_t size,
                        const CallOptions& options) {
  constexpr std::string_view kCommand = "guest-file-read";
  const auto wanted = static_cast<std::int64_t>(size);
  const auto reply =
      agent_object(channel, kCommand, {{"handle", file.handle()}, {"count", wanted}}, options);
  if (!reply) {
    return std::unexpected(reply.error());
  }
  const auto count = int_member(*reply, "count", 0, wanted);
  const auto end = bool_member(*reply, "eof");
  const auto text = string_member(*reply, "buf-b64");
  if (!count || !end || !text) {
    return failed(kCommand, !count ? count.error() : !end ? end.error() : text.error());
  }
  auto bytes = base64_decode(*text);
  if (!bytes || bytes->size() != static_cast<std::size_t>(*count)) {
    return failed(kCommand, Errc::protocol, "\"buf-b64\" is not base64 of \"count\" bytes");
  }
  return Piece{.bytes = std::move(*bytes), .end = *end};
}

Result<void> write_all(Channel& channel, const OpenFile& file, std::span<const std::byte> data,
                       const CallOptions& options, const TransferProgress& progress) {
  int short_writes = 0;
  for (std::size_t done = 0; done < data.size();) {
    const auto left = data.subspan(done);
    const auto count = write_some(channel, file, left, options);
    if (!count) {
      return std::unexpected(count.error());
    }
    done += *count;
    short_writes += *count < std::min(left.size(), kChunk) ? 1 : 0;
    if (short_writes > kMaxShortTransfers) {
      return failed("guest-file-write", Errc::protocol,
                    "the agent keeps writing less than it is given");
    }
    if (progress) {
      progress(done, data.size());
    }
  }
  const auto flushed =
      agent_execute(channel, "guest-file-flush", {{"handle", file.handle()}}, options);
  return flushed ? Result<void>() : std::unexpected(flushed.error());
}

Result<std::string> read_all(Channel& channel, const OpenFile& file, std::size_t max_bytes,
                             const CallOptions& options) {
  std::string bytes;
  int short_reads = 0;
  while (true) {
    // One byte over the cap is asked for, to learn whether the file ends there.
    const std::size_t left = max_bytes - bytes.size();
    const std::size_t wanted = left < kChunk ? left + 1 : kChunk;
    const auto piece = read_some(channel, file, wanted, options);
    if (!piece) {
      return std::unexpected(piece.error());
    }
    if (piece->bytes.size() > left) {
      return failed("guest-file-read", Errc::too_large,
                    fmt::format("the file is over {} bytes", max_bytes));
    }
    bytes += piece->bytes;
    if (piece->end) {
      return bytes;
    }
    short_reads += piece->bytes.size() < wanted ? 1 : 0;
    if (short_reads > kMaxShortTransfers) {
      return failed("guest-file-read", Errc::protocol,
                    "the agent keeps reading less than it is asked for");
    }
  }
}

Result<std::pair<std::string, bool>> parse_command(const json::value& entry) {
  const json::object* command = entry.if_object();
  if (command == nullptr) {
    return failed("\"supported_commands\"", Errc::protocol, "an entry is not an object");
  }
  const auto name = string_member(*command, "name");
  const auto enabled = bool_member(*command, "enabled");
  if (!name || !enabled) {
    return failed("\"supported_commands\"", name ? enabled.error() : name.error());
  }
  if (name->size() > kMaxNameLength) {
    return failed("\"supported_commands\"", Errc::protocol, "a name is too long");
  }
  return std::pair(std::string(*name), *enabled);
}

}  // namespace

bool AgentInfo::allows(std::string_view command) const {
  const auto found = commands.find(command);
  return found != commands.end() && found->second;
}

Result<void> GuestAgent::ping(const CallOptions& options) {
  const auto reply = agent_object(channel_, "guest-ping", {}, options);
  return reply ? Result<void>() : std::unexpected(reply.error());
}

Result<AgentInfo> GuestAgent::info(const CallOptions& options) {
  constexpr std::string_view kCommand = "guest-info";
  const auto reply = agent_object(channel_, kCommand, {}, options);
  if (!reply) {
    return std::unexpected(reply.error());
  }
  const auto version = string_member(*reply, "version");
  if (!version) {
    return failed(kCommand, version.error());
  }
  const json::value* list = reply->if_contains("supported_commands");
  if (list == nullptr || !list->is_array() || list->get_array().size() > kMaxCommands) {
    return failed(kCommand, Errc::protocol,
                  "\"supported_commands\" is missing, not an array or too long");
  }
  AgentInfo info{.version = printable(*version, kMaxNameLength), .commands = {}};
  for (const json::value& entry : list->get_array()) {
    auto command = parse_command(entry);
    if (!command) {
      return failed(kCommand, std::move(command.error()));
    }
    info.commands.insert(std::move(*command));
  }
  return info;
}

Result<void> GuestAgent::write_file(const std::string& path, std::span<const std::byte> data,
                                    const CallOptions& options, const TransferProgress& progress) {
  const std::string attempted = fmt::format("write {} in the guest", printable(path));
  auto file = OpenFile::open(channel_, path, "wb", options);
  if (!file) {
    return failed(attempted, std::move(file.error()));
  }
  if (Result<void> written = write_all(channel_, *file, data, options, progress); !written) {
    return failed(attempted, std::move(written.error()));
  }
  if (Result<void> closed = file->close(options); !closed) {
    return failed(attempted, std::move(closed.error()));
  }
  return {};
}

Result<std::string> GuestAgent::read_file(const std::string& path, std::size_t max_bytes,
                                          const CallOptions& options) {
  const std::string attempted = fmt::format("read {} in the guest", printable(path));
  auto file = OpenFile::open(channel_, path, "rb", options);
  if (!file) {
    return failed(attempted, std::move(file.error()));
  }
  auto bytes = read_all(channel_, *file, max_bytes, options);
  if (!bytes) {
    return failed(attempted, std::move(bytes.error()));
  }
  if (Result<void> closed = file->close(options); !closed) {
    return failed(attempted, std::move(closed.error()));
  }
  return bytes;
}

}  // namespace vpatch::qmp

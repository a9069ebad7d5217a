// SPDX-License-Identifier: Apache-2.0
#include "fake_peer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace vpatch::qmp {
namespace {

std::pair<int, int> socket_pair() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {fds[0], fds[1]};
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path, address.sun_path);
  return address;
}

}  // namespace

FakePeer::FakePeer(int fd) : fd_(fd) {
  const timeval patience{.tv_sec = 60, .tv_usec = 0};
  EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

FakePeer::FakePeer(FakePeer&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), in_(std::move(other.in_)) {}

FakePeer::~FakePeer() {
  hang_up();
}

void FakePeer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t length = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (length <= 0) {
      return;  // the other end has gone: the test sees that there
    }
    bytes.remove_prefix(static_cast<std::size_t>(length));
  }
}

void FakePeer::send_bytewise(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    send(bytes.substr(i, 1));
  }
}

std::string FakePeer::read_line() {
  while (true) {
    if (const std::size_t end = in_.find('\n'); end != std::string::npos) {
      std::string line = in_.substr(0, end);
      in_.erase(0, end + 1);
      return line;
    }
    std::array<char, 65536> chunk{};
    const ssize_t length = ::recv(fd_, chunk.data(), chunk.size(), 0);
    if (length <= 0) {
      return "";
    }
    in_.append(chunk.data(), static_cast<std::size_t>(length));
  }
}

boost::json::object FakePeer::read_command() {
  std::string line = read_line();
  if (line.starts_with('\xFF')) {
    line.erase(0, 1);
  }
  boost::system::error_code ec;
  boost::json::value command = boost::json::parse(line, ec);
  if (ec || !command.is_object()) {
    ADD_FAILURE() << "not a command: \"" << line << "\"";
    return {{"execute", ""}, {"id", 0}};
  }
  return std::move(command.get_object());
}

void FakePeer::hang_up() {
  if (fd_ >= 0) {
    ::close(std::exchange(fd_, -1));
  }
}

void FakePeer::greet() {
  send(kGreeting);
  answer("qmp_capabilities");
}

void FakePeer::answer(std::string_view command, std::string_view returned) {
  const boost::json::object received = read_command();
  EXPECT_EQ(received.at("execute").as_string(), command);
  const boost::json::value* id = received.if_contains("id");
  reply(id == nullptr ? boost::json::value() : *id, returned);
}

void FakePeer::reply(const boost::json::value& id, std::string_view returned) {
  std::string line = "{\"return\": " + std::string(returned);
  if (!id.is_null()) {
    line += ", \"id\": " + boost::json::serialize(id);
  }
  send(line + "}\r\n");
}

void FakePeer::synchronise(std::string_view stale) {
  const std::string line = read_line();
  EXPECT_TRUE(line.starts_with("\xFF{\"execute\":\"guest-sync-delimited\"")) << line;
  if (!line.starts_with('\xFF')) {
    return;
  }
  const boost::json::value command = boost::json::parse(std::string_view(line).substr(1));
  send(std::string(stale) +
       "\xFF{\"return\": " + boost::json::serialize(command.at("arguments").at("id")) + "}\n");
}

Connection::Connection() : Connection(socket_pair()) {}

Connection::Connection(std::pair<int, int> fds) : ours(fds.first), peer(fds.second) {}

Listener::Listener(int backlog) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "vpatch-qmp-XXXXXX").string();
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  directory_ = pattern;
  path_ = directory_ + "/socket";
  const sockaddr_un address = address_of(path_);
  EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd_, backlog), 0);
}

Listener::~Listener() {
  for (const int fd : fillers_) {
    ::close(fd);
  }
  ::close(fd_);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

FakePeer Listener::accept() {
  return FakePeer(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
}

bool Listener::has_waiting() const {
  pollfd wait{.fd = fd_, .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, 0) > 0;
}

void Listener::fill_queue() {
  const sockaddr_un address = address_of(path_);
  while (true) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
      ADD_FAILURE() << "no socket";
      return;
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      EXPECT_EQ(errno, EAGAIN);
      ::close(fd);
      return;
    }
    fillers_.push_back(fd);
  }
}

void Listener::empty_queue() {
  for (std::size_t i = 0; i < fillers_.size(); ++i) {
    accept();
  }
}

}  // namespace vpatch::qmp

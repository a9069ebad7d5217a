// SPDX-License-Identifier: Apache-2.0
#include "qemu.h"

#include <algorithm>
#include <filesystem>

#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace vpatch {
namespace {

const qmp::CallOptions kPatient{.timeout = kPatience};

std::string socket_option(const std::string& id, const Socket& socket) {
  return "socket,id=" + id + ",server=on,wait=off,fd=" + std::to_string(socket.fd());
}

}  // namespace

Socket::Socket() : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  folder_ = (std::filesystem::temp_directory_path() / "vpatch-domain-XXXXXX").string();
  EXPECT_NE(mkdtemp(folder_.data()), nullptr);
  path_ = folder_ + "/socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path_, address.sun_path);
  EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(fd_.get(), 1), 0);  // as QEMU has it
}

Socket::~Socket() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  std::string identity = path_;
  std::ranges::replace(identity, '/', '-');
  std::filesystem::remove("/run/vpatch/qmp" + identity + ".pause.lock", ignored);
}

Qemu::Qemu() {
  process_.emplace(std::vector<std::string>{"qemu-system-x86_64",
                                            "-nodefaults",
                                            "-no-user-config",
                                            "-display",
                                            "none",
                                            "-machine",
                                            "q35",
                                            "-accel",
                                            "tcg,thread=single",
                                            "-m",
                                            "64",
                                            "-smp",
                                            "2",
                                            "-chardev",
                                            socket_option("a", for_vpatch_),
                                            "-mon",
                                            "chardev=a,mode=control",
                                            "-chardev",
                                            socket_option("b", for_test_),
                                            "-mon",
                                            "chardev=b,mode=control"},
                   std::vector{for_vpatch_.fd(), for_test_.fd()});
  for_vpatch_.close();
  for_test_.close();
  auto channel = qmp::MonitorChannel::connect(for_test_.path(), kPatient);
  if (!channel) {
    ADD_FAILURE() << "no QEMU: " << channel.error().what;
    return;
  }
  monitor_ = *std::move(channel);
}

Target Qemu::target() const {
  Target target;
  target.qmp = for_vpatch_.path();
  return target;
}

std::unique_ptr<Domain> Qemu::open() const {
  auto domain = open_domain(target(), kPatient);
  EXPECT_TRUE(domain) << domain.error().what;
  return domain ? *std::move(domain) : nullptr;
}

std::string Qemu::status() {
  auto reply = monitor_->execute("query-status", {}, kPatient);
  return reply ? std::string(reply->at("status").as_string()) : reply.error().what;
}

void Qemu::execute(std::string_view command, const boost::json::object& arguments) {
  const auto reply = monitor_->execute(command, arguments, kPatient);
  EXPECT_TRUE(reply) << reply.error().what;
}

bool Qemu::resumes(std::chrono::milliseconds limit) {
  return monitor_
      ->wait_event([](const qmp::Event& event) { return event.name == "RESUME"; },
                   {.timeout = limit})
      .has_value();
}

bool Qemu::migration_is(std::string_view status) {
  const auto is_there = [status](const qmp::Event& event) {
    return event.name == "MIGRATION" && event.data.at("status") == boost::json::value(status);
  };
  return monitor_->wait_event(is_there, kPatient).has_value();
}

void Qemu::kill() {
  process_->kill();
  process_->wait();
}

}  // namespace vpatch

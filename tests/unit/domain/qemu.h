// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "process.h"
#include "qmp/socket_channel.h"
#include "vmm-agent/domain/domain.h"

namespace vpatch {

/// A listening Unix socket in a folder of its own.
class Socket {
 public:
  Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

 private:
  std::string folder_;
  std::string path_;
  introspect::UniqueFd fd_;
};

/// A running QEMU of two vCPUs and no guest but its firmware. It has two monitors: one for the code
/// under test, one for the test.
class Qemu {
 public:
  Qemu();

  Target target() const;
  std::unique_ptr<Domain> open() const;

  /// By the test's own monitor.
  std::string status();
  void execute(std::string_view command, const boost::json::object& arguments = {});
  /// Waits until it has resumed, since the last such wait.
  bool resumes(std::chrono::milliseconds limit = kPatience);
  /// Waits for a stage of a migration; the capability "events" is to be on.
  bool migration_is(std::string_view status);
  void kill();

 private:
  Socket for_vpatch_;
  Socket for_test_;
  std::optional<Child> process_;
  std::unique_ptr<qmp::MonitorChannel> monitor_;
};

}  // namespace vpatch

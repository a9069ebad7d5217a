// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <sys/types.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/error.h"

namespace vpatch::serve {

/// The number under which a child finds ChildSetup::file.
inline constexpr int kChildFile = 3;

struct ChildSetup {
  std::string program;             ///< looked for in PATH when it has no '/'
  std::vector<std::string> words;  ///< with the program's own name
  bool input = false;              ///< a pipe to its standard input, which is else empty
  int file = -1;                   ///< a descriptor that it gets as kChildFile, or none
};

struct ChildEnd {
  int exit_code = -1;  ///< when no signal ended it
  int signal = 0;
};

/// A program in a session of its own (a terminal's Ctrl-C does not reach it), with pipes from its
/// outputs, none of our other descriptors, and signals as a shell would give it. Watched by a
/// descriptor that cannot come to mean another process, until its end, also when nobody else holds
/// this object: it never stays a zombie as long as the executor runs.
class ChildProcess : public std::enable_shared_from_this<ChildProcess> {
 public:
  using EndHandler = std::function<void(ChildEnd)>;

  /// `on_end` is called on the executor. Outcome::internal when it cannot be started.
  static Result<std::shared_ptr<ChildProcess>> start(const boost::asio::any_io_executor& executor,
                                                     const ChildSetup& setup, EndHandler on_end);

  explicit ChildProcess(const boost::asio::any_io_executor& executor) : watch_(executor) {}

  // Nothing happens after its end.
  void signal(int number);
  /// To all that it has started, too, unless that has made itself a group of its own.
  void signal_group(int number);

  // To be taken, by move.
  introspect::UniqueFd input;
  introspect::UniqueFd output;
  introspect::UniqueFd errors;

 private:
  void watch(EndHandler on_end);

  boost::asio::posix::stream_descriptor watch_;  ///< a pidfd
  pid_t pid_ = 0;                                ///< and its group, as long as it is not reaped
};

}  // namespace vpatch::serve

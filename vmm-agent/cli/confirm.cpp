// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/confirm.h"

#include <array>
#include <cstdio>

#include <poll.h>
#include <unistd.h>

#include "vmm-agent/cli/terminal.h"

namespace vpatch {
namespace {

constexpr int kLookForStopMs = 100;

}  // namespace

bool can_ask() {
  return isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1;
}

std::string ask_for(const std::string& name, const std::stop_token& stop) {
  write_text(stderr, "Type the domain's name (" + name + ") to go on: ");
  static_cast<void>(std::fflush(stderr));
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (!stop.stop_requested()) {
    if (poll(&input, 1, kLookForStopMs) > 0) {
      std::array<char, 256> line{};  // a terminal gives one line at a time
      const ssize_t length = read(STDIN_FILENO, line.data(), line.size());
      std::string text(line.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
      while (text.ends_with('\n')) {
        text.pop_back();
      }
      return text;
    }
  }
  return {};
}

}  // namespace vpatch

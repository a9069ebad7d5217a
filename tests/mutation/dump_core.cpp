// SPDX-License-Identifier: Apache-2.0
// dump-core QMP-SOCKET FILE: lets QEMU write its guest's memory and vCPUs to an ELF core.
#include <filesystem>

#include <fmt/format.h>

#include "qmp/socket_channel.h"

namespace {

int fail(const vpatch::qmp::Error& error) {
  fmt::print(stderr, "dump-core: {}\n", error.what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: dump-core QMP-SOCKET FILE\n");
    return 2;
  }
  const vpatch::qmp::CallOptions patience{.timeout = std::chrono::seconds(120), .stop = {}};
  auto monitor = vpatch::qmp::MonitorChannel::connect(argv[1], patience);
  if (!monitor) {
    return fail(monitor.error());
  }
  const std::string target = "file:" + std::filesystem::absolute(argv[2]).string();
  const auto done =
      (*monitor)->execute("dump-guest-memory", {{"paging", false}, {"protocol", target}}, patience);
  return done ? 0 : fail(done.error());
}

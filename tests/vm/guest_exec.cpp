// SPDX-License-Identifier: Apache-2.0
// guest-exec DOMAIN PROGRAM [ARGUMENT...]: runs a program in a libvirt guest through its agent; for
// demo and by hand.
#include <fmt/format.h>

#include "qmp/guest_agent.h"
#include "vmm-agent/domain/domain.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: guest-exec DOMAIN PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  const vpatch::qmp::CallOptions options{std::chrono::seconds(60), {}};
  auto domain = vpatch::open_libvirt_domain("qemu:///system", argv[1], options);
  auto channel = domain ? (*domain)->agent(options) : std::unexpected(domain.error());
  if (!channel) {
    fmt::print(stderr, "guest-exec: {}\n", channel.error().what);
    return 6;
  }
  auto result =
      vpatch::qmp::GuestAgent(**channel).exec({argv[2], {argv + 3, argv + argc}, {}}, options);
  if (!result) {
    fmt::print(stderr, "guest-exec: {}\n", result.error().what);
    return 6;
  }
  fmt::print("{}", result->out);
  fmt::print(stderr, "{}", result->err);
  return result->exit_code.value_or(1);
}

// SPDX-License-Identifier: Apache-2.0
// A real server whose work a fake program does: serve_program PROGRAM HEARTBEAT_MS
#include <chrono>
#include <cstdlib>

#include <unistd.h>

#include "vmm-agent/serve/server.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    return 2;
  }
  using vpatch::introspect::UniqueFd;
  vpatch::serve::run_server(
      UniqueFd(STDIN_FILENO), UniqueFd(STDOUT_FILENO),
      {.program = argv[1],
       .vpatch = "1.2.3",
       .heartbeat = std::chrono::milliseconds(std::strtol(argv[2], nullptr, 10))});
  return 0;
}

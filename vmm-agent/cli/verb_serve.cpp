// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/serve/domain_list.h"
#include "vmm-agent/serve/server.h"

namespace vpatch {

/// What `serve --stdio` answers `list` with, in a process of its own.
Outcome run_serve(Program& program) {
  const auto domains = serve::list_domains(program.options.target.uri, program.call_options());
  if (!domains) {
    return program.print_error(domains.error(), "serve");
  }
  Program::print_json(*domains);
  return Outcome::done;
}

Outcome serve_stdio(const Options& options) {
  const auto duplicate = [](int fd) {
    return introspect::UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  };
  serve::ServerOptions how;
  how.vpatch = options.version;
  serve::run_server(duplicate(STDIN_FILENO), duplicate(STDOUT_FILENO), how);
  return Outcome::done;
}

}  // namespace vpatch

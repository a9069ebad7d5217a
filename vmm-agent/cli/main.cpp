// SPDX-License-Identifier: Apache-2.0
// The vpatch program: which verb runs, and its exit code.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "vmm-agent/cli/options.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/rollout.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/domain/guardian_process.h"

namespace vpatch {
namespace {

/// A stream that was closed by the caller must not become the number of a socket of ours.
void open_standard_streams() {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd > STDERR_FILENO) {
      close(fd);
      break;
    }
  }
}

Outcome run_verb(const Options& options) {
  Program program(options);
  switch (options.verb) {
    case Verb::inspect:
      return run_inspect(program);
    case Verb::apply:
      return run_apply(program);
    case Verb::status:
      return run_status(program);
    case Verb::stacks:
      return run_stacks(program);
    case Verb::log:
      return run_log(program);
    case Verb::revert:
      return run_revert(program);
    case Verb::ensure:
      return run_ensure(program);
    case Verb::history:
      return run_history(program);
    case Verb::force:
      return run_force(program);
    case Verb::doctor:
      return run_doctor(program);
    case Verb::health:
      return run_health(program);
    case Verb::serve:
      return run_serve(program);
    case Verb::rollout:
      return run_rollout(options, program.interrupt);
    case Verb::group:
      return run_group(program);
    case Verb::exporter:
    case Verb::none:
      break;
  }
  return Outcome::usage;
}

}  // namespace
}  // namespace vpatch

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string_view(argv[1]) == vpatch::kGuardianVerb) {
      return vpatch::run_guardian(argc, argv);
    }
    vpatch::open_standard_streams();
    const vpatch::Options options = vpatch::parse_command_line(argc, argv);
    if (options.verb == vpatch::Verb::none) {
      return options.exit_code;
    }
    const bool serves = options.verb == vpatch::Verb::serve && options.stdio;
    const vpatch::Outcome outcome = serves ? vpatch::serve_stdio(options)
                                    : options.verb == vpatch::Verb::exporter
                                        ? vpatch::export_metrics(options)
                                        : vpatch::run_verb(options);
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      vpatch::write_text(stderr,
                         "warning: the output could not be written; the exit code is right\n");
    }
    return static_cast<int>(outcome);
  } catch (const std::exception& error) {
    vpatch::write_text(stderr, std::string("error: a bug of vpatch: ") + error.what() + "\n");
    return static_cast<int>(vpatch::Outcome::internal);
  }
}

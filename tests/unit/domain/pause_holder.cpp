// SPDX-License-Identifier: Apache-2.0
// A process for the tests to kill: pause_holder PROGRAM QMP-PATH LIMIT-MS MODE, or with a libvirt
// URI, which is that of a domain "test", for the path. Prints its guardian's process id when it is
// where MODE says, and stays there.
#include <chrono>
#include <cstdio>
#include <string>

#include <unistd.h>

#include "vmm-agent/domain/pause.h"

namespace {

using vpatch::Pause;

void tell(const vpatch::Guardian& guardian) {
  std::printf("%d\n", guardian.pid());
  std::fflush(stdout);
}

/// Goes to where MODE says; false when it cannot.
bool go(const std::string& mode, vpatch::Domain& domain, vpatch::Guardian& guardian) {
  if (mode == "idle") {
    tell(guardian);
    return true;
  }
  if (mode == "armed") {  // and with nothing said after that
    static auto lock = vpatch::PauseLock::take(domain.identity(), domain.name(), {});
    if (!lock || !guardian.arm(*lock, {})) {
      return false;
    }
    tell(guardian);
    return true;
  }
  if (mode == "again") {  // pauses and resumes until it is killed
    tell(guardian);
    while (true) {
      auto pause = Pause::take(domain, guardian, {});
      if (!pause || !pause->resume()) {
        return false;
      }
    }
  }
  auto pause = Pause::take(domain, guardian, {});
  if (!pause || pause->ours() != (mode != "others") || (mode == "resumed" && !pause->resume())) {
    return false;
  }
  tell(guardian);
  while (true) {
    ::pause();  // the destructor would resume
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    return 2;
  }
  vpatch::Target target;
  const std::string where = argv[2];
  if (where.find("://") != std::string::npos) {
    target.uri = where;
    target.domain = "test";
  } else {
    target.qmp = where;
  }
  const vpatch::qmp::CallOptions options;
  auto domain = vpatch::open_domain(target, options);
  auto guardian = vpatch::Guardian::start(target, std::chrono::milliseconds(std::stol(argv[3])),
                                          options, argv[1]);
  if (!domain || !guardian) {
    return 1;
  }
  if (!go(argv[4], **domain, *guardian)) {
    return 1;
  }
  while (true) {
    ::pause();
  }
}

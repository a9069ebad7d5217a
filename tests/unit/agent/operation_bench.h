// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/agent/fake_clock.h"
#include "tests/unit/agent/fake_guest.h"
#include "tests/unit/agent/fake_kernel.h"
#include "vmm-agent/operation/context.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// Keeps what it is told.
class FakeReporter final : public Reporter {
 public:
  void step(std::string_view text) override { steps.emplace_back(text); }
  void progress(std::string_view text) override { progresses.emplace_back(text); }
  void warning(std::string_view text) override { warnings.emplace_back(text); }
  bool record(std::string_view kind, const boost::json::object& /*detail*/) override {
    if (records_fail) {
      return false;
    }
    records.emplace_back(kind);
    return true;
  }

  std::vector<std::string> steps;
  std::vector<std::string> progresses;
  std::vector<std::string> warnings;
  std::vector<std::string> records;
  bool records_fail = false;
};

/// A fake guest and all that an operation on it needs.
struct OperationBench {
  FakeClock clock;
  FakeKernel kernel{clock};
  FakeGuest guest{clock, kernel};
  FakeReporter reporter;
  std::stop_source stop;
  Context context{.domain = "web01",
                  .guest = guest,
                  .reporter = reporter,
                  .clock = clock,
                  .stop = stop.get_token()};

  void press_ctrl_c() { stop.request_stop(); }
};

/// The livepatch file whose load does to the kernel what `image` says.
LivepatchFile file_of(const ModuleImage& image);

/// Whether a call of this name was made: "load p1".
bool called(const FakeGuest& guest, std::string_view call);

}  // namespace vpatch

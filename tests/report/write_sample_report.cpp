// SPDX-License-Identifier: Apache-2.0
// write_sample_report FOLDER: writes reports of made-up rollouts, and the live view of one.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "tests/unit/fleet/sample_rollout.h"
#include "vmm-agent/fleet/rollout_report.h"
#include "vmm-agent/fleet/rollout_view.h"
#include "vmm-agent/fleet/rollout_words.h"

namespace {

using namespace vpatch::fleet;

bool write(const std::filesystem::path& path, const std::string& text) {
  return static_cast<bool>(std::ofstream(path, std::ios::binary) << text << std::flush);
}

bool write_page(const std::filesystem::path& path, const SampleRollout& sample) {
  return write(path, report_page(sample.rollout, sample.events, sample.now));
}

bool write_view(const std::filesystem::path& path, const SampleRollout& sample, ViewSize size) {
  return write(path, render_rollout(sample.rollout, summary_of(sample.rollout), sample.doing,
                                    sample.now, size));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    fmt::print(stderr, "usage: write_sample_report FOLDER\n");
    return EXIT_FAILURE;
  }
  const std::filesystem::path folder = arguments[1];
  const SampleRollout paused = sample_rollout(60, SampleEnd::paused);
  const bool written =
      write_page(folder / "rolled-back.html", sample_rollout(60, SampleEnd::rolled_back)) &&
      write_page(folder / "paused.html", paused) &&
      write_page(folder / "done.html", sample_rollout(20, SampleEnd::done)) &&
      write_page(folder / "large.html", sample_rollout(5000, SampleEnd::done)) &&
      write_page(folder / "empty.html", sample_rollout(0, SampleEnd::done)) &&
      write_view(folder / "view-80x24.txt", paused, {80, 24, true}) &&
      write_view(folder / "view-120x40.txt", paused, {120, 40, true});
  return written ? EXIT_SUCCESS : EXIT_FAILURE;
}

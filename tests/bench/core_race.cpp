// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/core_race.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "introspect/guest/guest_kernel.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"
#include "introspect/memory/core_memory.h"

namespace vpatch::bench {
namespace {

namespace intro = vpatch::introspect;
using Seconds = std::chrono::duration<double>;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 3;  // for both
constexpr const char* kDrgnStacks = VPATCH_SOURCE_DIR "/tests/bench/drgn_stacks.py";

/// A file that goes when its owner does.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Times are in seconds.
struct Race {
  double load = 0;        ///< from nothing to ready to walk
  double first_walk = 0;  ///< what a command that runs once takes
  double best_walk = 0;
  double tasks = 0, failed = 0, frames = 0;
  double inlined = 0;  ///< of the frames: functions without a frame of their own

  double load_and_walk() const { return load + first_walk; }
};

/// One walk over all stacks, each frame named.
void walk(intro::GuestKernel& kernel, std::span<const intro::VcpuRegisters> vcpus, Race& race) {
  const auto look = must(intro::look_at_stacks(kernel, {vcpus, true, {}}));
  const intro::Symbolizer symbols(kernel, look.modules);
  std::size_t frames = 0;
  std::size_t failed = 0;
  for (const intro::TaskStack& one : look.tasks) {
    failed += one.trace.frames.empty() && one.activity == intro::Activity::asleep ? 1U : 0U;
    for (const intro::Frame& frame : one.trace.frames) {
      frames += symbols.place(frame) ? 1U : 0U;
    }
  }
  race.tasks = static_cast<double>(look.tasks.size());
  race.failed = static_cast<double>(failed);
  race.frames = static_cast<double>(frames);
}

Race run_ours(const std::string& core_path, intro::GuestPhysAddr& note) {
  Race race;
  const auto start = Clock::now();
  const auto core = must(intro::open_core(core_path));
  const auto kernel = must(intro::GuestKernel::attach(core.memory));
  race.load = Seconds(Clock::now() - start).count();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    walk(*kernel, core.vcpus, race);
    const double took = Seconds(Clock::now() - begin).count();
    race.first_walk = round == 0 ? took : race.first_walk;
    race.best_walk = round == 0 ? took : std::min(race.best_walk, took);
  }
  note = kernel->facts().note;
  return race;
}

Race run_drgn(const std::string& core, const std::string& vmlinux, intro::GuestPhysAddr note) {
  const auto result = test::run({"/usr/bin/python3", kDrgnStacks, core, vmlinux,
                                 fmt::format("{:#x}", note.value()), std::to_string(kRounds)});
  if (result.exit_code != 0) {
    throw std::runtime_error("drgn: " + result.err);
  }
  const auto told = boost::json::parse(result.out).as_object();
  const auto number = [&told](const char* key) { return told.at(key).to_number<double>(); };
  return {number("load"),   number("first_walk"), number("best_walk"), number("tasks"),
          number("failed"), number("frames"),     number("inlined")};
}

}  // namespace

std::vector<Figure> race_drgn(const BenchGuest& guest, const std::string& kernel,
                              const std::string& vmlinux) {
  const TemporaryFile core(fmt::format("{}/vpatch-bench-{}.core",
                                       std::filesystem::temp_directory_path().string(), kernel));
  guest.dump(core.path());
  intro::GuestPhysAddr note(0);
  const Race ours = run_ours(core.path(), note);
  const Race drgn = run_drgn(core.path(), vmlinux, note);

  std::vector<Figure> figures;
  const auto add = [&](std::string what, std::string unit, double value, std::string text) {
    figures.push_back(
        {kernel, std::move(what), std::move(unit), value, {}, {}, {}, false, std::move(text)});
  };
  const auto told = [](const Race& race) {
    return fmt::format("{} tasks, {} frames ({} inlined), {} without stack", race.tasks,
                       race.frames, race.inlined, race.failed);
  };
  constexpr double kMicro = 1e6;
  add("core, named stacks: vpatch, best walk", "us/task", ours.best_walk / ours.tasks * kMicro,
      told(ours));
  add("core, named stacks: drgn, best walk", "us/task", drgn.best_walk / drgn.tasks * kMicro,
      told(drgn));
  const auto ratio = [&](std::string what, double of, double to, std::optional<double> bar) {
    figures.push_back({kernel, std::move(what), "times", of / to, {}, {}, bar, true, {}});
  };
  ratio("drgn / vpatch, a task, best walks", drgn.best_walk / drgn.tasks,
        ours.best_walk / ours.tasks, 100.0);
  ratio("drgn / vpatch, a task, first walks", drgn.first_walk / drgn.tasks,
        ours.first_walk / ours.tasks, {});
  add("core, loading and first walk: vpatch", "s", ours.load_and_walk(), {});
  add("core, loading and first walk: drgn", "s", drgn.load_and_walk(), {});
  ratio("drgn / vpatch, loading and first walk", drgn.load_and_walk(), ours.load_and_walk(), {});
  return figures;
}

}  // namespace vpatch::bench

// SPDX-License-Identifier: Apache-2.0
// mutation_test CORE [--count N] [--seed S] [--verbose]
//
// Corrupts the guest of an ELF core in N ways, each following from a seed (S, S+1, ...), and lets
// all that reads guest memory look at each: an answer or an error must come within two seconds of
// CPU time and a bound of memory. What fails is named by its seed; `--seed S --count 1` repeats it.
// Exits with 1 when anything failed, 77 when there is no core to test with.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "introspect/kernel/livepatch.h"
#include "introspect/memory/address_space.h"
#include "introspect/memory/core_memory.h"
#include "tests/mutation/looks.h"
#include "tests/mutation/mutator.h"

#if defined(__SANITIZE_ADDRESS__)
#define VPATCH_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VPATCH_SANITIZED 1
#endif
#endif

#ifdef VPATCH_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

// What is freed would be kept for 256 MiB, and count as ours.
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=8:malloc_context_size=2:detect_leaks=0:allocator_may_return_null=0";
}
#endif

namespace vpatch::mutation {
namespace {

using introspect::kPageSize;

#ifdef VPATCH_SANITIZED
constexpr double kMaxSeconds = 10;
#else
constexpr double kMaxSeconds = 2;
#endif
/// A look that takes longer than this will never end.
constexpr unsigned kGiveUpSeconds = 120;
constexpr long kMaxGrowthKiB = 1 << 20;
/// One in so many mutations is of all that a cold start reads, which takes long, and meets one; as
/// many meet a guest that is known already.
constexpr std::uint64_t kBootstrapEvery = 100;
constexpr std::uint64_t kSlowEvery = 100;
/// One in so many meets a guest in the middle of a transition.
constexpr std::uint64_t kTransitionEvery = 7;

std::uint64_t current_seed = 0;  // for the report of a crash

void tell_seed() {
  char text[64];
  const int length = std::snprintf(text, sizeof(text), "\nmutation_test: it was --seed %llu\n",
                                   static_cast<unsigned long long>(current_seed));
  static_cast<void>(!write(STDERR_FILENO, text, static_cast<std::size_t>(length)));
}

extern "C" void on_signal(int number) {
  tell_seed();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

struct Tally {
  std::uint64_t runs = 0, answers = 0;
  double seconds = 0, worst = 0;
  std::uint64_t worst_seed = 0;
};

struct Options {
  std::string core;
  std::uint64_t count = 2000, seed = 1;
  bool verbose = false;
};

class Test {
 public:
  Test(OverlayMemory& memory, const std::vector<introspect::VcpuRegisters>& registers,
       const Options& options)
      : memory_(memory), registers_(registers), options_(options), looks_(all_looks()) {}

  /// Looks at the guest as it is, and learns what that reads.
  bool prepare() {
    std::vector<OverlayMemory::Extent> extents;
    const auto recorded = [&](const std::string& name, std::vector<TargetGroup>& groups) {
      groups.push_back({name, std::move(extents)});
      extents = {};
    };
    std::vector<TargetGroup> cold;
    memory_.record(&extents);
    auto view = view_of(memory_, registers_, {});
    if (!view) {
      fmt::print("the guest cannot be read as it is: {}\n", view.error().what);
      return false;
    }
    std::erase_if(extents, [](const auto& extent) { return extent.size <= 32; });  // the scan
    recorded("bootstrap", cold);
    static_cast<void>(view->kernel().names().kallsyms());
    static_cast<void>(view->kernel().names().btf());
    extents.clear();
    facts_ = view->kernel().facts();
    std::vector<TargetGroup> warm;
    {
      const auto second = view_of(memory_, registers_, facts_);
      if (!second || !second->kernel().from_cache()) {
        fmt::print("the guest's facts do not hold\n");
        return false;
      }
    }
    recorded("attach", warm);
    for (const Look& look : looks_) {
      view->kernel().forget_pages();
      if (!look.run(*view) && look.name != "module types") {
        fmt::print("{}: fails on the guest as it is\n", look.name);
        return false;
      }
      for (const auto& extent : extents) {
        for (std::uint64_t page = extent.address / kPageSize;
             page <= (extent.address + extent.size - 1) / kPageSize; ++page) {
          read_by_[look.name].insert(page * kPageSize);
        }
      }
      recorded(look.name, warm);
    }
    memory_.record(nullptr);
    facts_ = view->kernel().facts();
    find_transition(view->kernel());
    view_.emplace(*std::move(view));
    cold.insert(cold.end(), warm.begin(), warm.end());
    warm_.emplace(memory_, std::move(warm));
    cold_.emplace(memory_, std::move(cold));
    peak_ = first_peak_ = peak_kib();
    return true;
  }

  /// Whether all ended as they should.
  bool run() {
    const double start = cpu_seconds();
    for (std::uint64_t index = 0; index < options_.count; ++index) {
      current_seed = options_.seed + index;
      alarm(kGiveUpSeconds);
      one();
      alarm(0);
      memory_.restore();
      if ((index + 1) % 10'000 == 0) {
        fmt::print("{} mutations, {:.0f} s\n", index + 1, cpu_seconds() - start);
        std::fflush(stdout);
      }
    }
    report(cpu_seconds() - start);
    return failures_ == 0;
  }

 private:
  void one() {
    const std::uint64_t turn = current_seed % kBootstrapEvery;
    Mutator& mutator = turn <= 1 ? *cold_ : *warm_;
    what_ = mutator.mutate(current_seed);
    const bool moving = turn > 1 && current_seed % kTransitionEvery == 0;
    if (moving) {
      start_transition();
    }
    if (options_.verbose) {
      fmt::print("seed {}:{}{}\n", current_seed, what_, moving ? " in a transition" : "");
      std::fflush(stdout);
    }
    if (turn == 0) {
      if (auto view = timed("cold attach", [&] { return view_of(memory_, registers_, {}); })) {
        look(*view, nullptr);
      }
    } else {
      auto view =
          timed("warm attach", [&] { return view_of(memory_, registers_, facts_, turn != 1); });
      if (view) {
        timed("still running", [&] { return view->kernel().still_running().has_value(); });
      }
      if (turn != 1) {
        look(*view_, moving ? nullptr : &mutator.pages());
      } else if (view) {
        look(*view, nullptr);
      }
    }
    const long peak = peak_kib();
    if (peak - peak_ > kMaxGrowthKiB / 4) {
      fmt::print("seed {}: memory grew by {} MiB:{}\n", current_seed, (peak - peak_) / 1024, what_);
    }
    if (peak - first_peak_ > kMaxGrowthKiB && peak > peak_) {
      ++failures_;
      fmt::print("seed {}: TOO MUCH MEMORY, {} MiB in all:{}\n", current_seed, peak / 1024, what_);
    }
    peak_ = peak;
  }

  /// Where the state of a transition lies in the guest's memory.
  void find_transition(const introspect::GuestKernel& kernel) {
    const auto& layout = kernel.layouts().livepatch;
    const auto* const space = dynamic_cast<const introspect::AddressSpace*>(&kernel.memory());
    const auto state = layout ? introspect::read_livepatch(kernel.memory(), *layout)
                              : std::unexpected(layout.error());
    if (space == nullptr || !state || state->patches.empty()) {
      fmt::print("the guest has no livepatch: transitions are not tried\n");
      return;
    }
    const auto patch = space->translate(layout->transition_patch);
    const auto target = space->translate(layout->target_state);
    if (patch && target) {
      transition_ = {patch->phys.value(), target->phys.value(),
                     state->patches.back().address.value()};
    }
  }

  void start_transition() {
    if (transition_.patch != 0) {
      memory_.change(transition_.place, transition_.patch);
      const std::uint64_t word = transition_.target & ~std::uint64_t{7};
      const unsigned shift = transition_.target % 8 * 8;
      const std::uint64_t others = memory_.original(word) & ~(std::uint64_t{0xffff'ffff} << shift);
      memory_.change(word, others | (current_seed / kTransitionEvery % 2) << shift);
    }
  }

  /// All looks, or those that read one of `pages`: to the others the guest is as it was. Of the two
  /// that are much alike, one then.
  void look(GuestView& view, const std::vector<std::uint64_t>* pages) {
    for (const Look& one : looks_) {
      const auto& read = read_by_[one.name];
      const bool others_turn = one.name == (current_seed % 2 == 0 ? "stacks" : "live stacks");
      if ((pages != nullptr && others_turn) || (one.slow && current_seed % kSlowEvery != 0) ||
          (pages != nullptr && std::ranges::none_of(*pages, [&read](std::uint64_t page) {
             return read.contains(page);
           }))) {
        continue;
      }
      view.kernel().forget_pages();
      timed(one.name, [&] { return one.run(view); });
    }
  }

  template <class Call>
  std::invoke_result_t<Call> timed(const std::string& name, const Call& call) {
    const double start = cpu_seconds();
    auto result = call();
    const double took = cpu_seconds() - start;
    Tally& tally = tallies_[name];
    ++tally.runs;
    if (result) {
      ++tally.answers;
    }
    tally.seconds += took;
    if (took > tally.worst) {
      tally.worst = took;
      tally.worst_seed = current_seed;
    }
    if (took > kMaxSeconds) {
      ++failures_;
      fmt::print("seed {}: {} took TOO LONG, {:.1f} s:{}\n", current_seed, name, took, what_);
    }
    return result;
  }

  void report(double seconds) const {
    fmt::print("{:14} {:>8} {:>8} {:>9} {:>9}  seed of the worst\n", "look", "runs", "answers",
               "mean ms", "worst ms");
    for (const auto& [name, tally] : tallies_) {
      fmt::print("{:14} {:8} {:8} {:9.2f} {:9.1f}  {}\n", name, tally.runs, tally.answers,
                 tally.seconds / static_cast<double>(tally.runs) * 1e3, tally.worst * 1e3,
                 tally.worst_seed);
    }
    fmt::print("{} mutations in {:.0f} s, memory grew by {} MiB to {} MiB, {} failures\n",
               options_.count, seconds, (peak_ - first_peak_) / 1024, peak_ / 1024, failures_);
  }

  OverlayMemory& memory_;
  const std::vector<introspect::VcpuRegisters>& registers_;
  const Options& options_;
  std::vector<Look> looks_;
  introspect::BootFacts facts_;
  std::optional<GuestView> view_;  // learnt from the guest as it was
  std::optional<Mutator> warm_, cold_;
  std::map<std::string, std::unordered_set<std::uint64_t>> read_by_;  // pages that each look reads
  struct {
    std::uint64_t place = 0, target = 0;  // of the pointer and the state, guest-physical
    std::uint64_t patch = 0;              // what the pointer may be
  } transition_;
  std::string what_;
  std::map<std::string, Tally> tallies_;
  std::uint64_t failures_ = 0;
  long first_peak_ = 0, peak_ = 0;
};

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  if (const char* const core = std::getenv("VPATCH_CORE"); core != nullptr) {
    options.core = core;
  }
  for (int at = 1; at < argc; ++at) {
    const std::string_view word = argv[at];
    if (word == "--verbose") {
      options.verbose = true;
    } else if ((word == "--count" || word == "--seed") && at + 1 < argc) {
      (word == "--count" ? options.count : options.seed) = std::strtoull(argv[++at], nullptr, 0);
    } else if (!word.starts_with("-")) {
      options.core = word;
    } else {
      return std::nullopt;
    }
  }
  return options;
}

int run(int argc, char** argv) {
  const auto options = parse(argc, argv);
  if (!options) {
    fmt::print(stderr, "usage: mutation_test [CORE] [--count N] [--seed S] [--verbose]\n");
    return 2;
  }
  if (options->core.empty()) {
    fmt::print("skipped: name an ELF core of a guest, or set VPATCH_CORE\n");
    return 77;
  }
  const auto core = introspect::open_core(options->core);
  if (!core) {
    fmt::print(stderr, "{}: {}\n", options->core, core.error().what);
    return 2;
  }
  auto memory = OverlayMemory::copy_of(core->memory);
  if (!memory) {
    fmt::print(stderr, "{}: {}\n", options->core, memory.error().what);
    return 2;
  }
  for (const int number : {SIGALRM, SIGABRT}) {
    std::signal(number, on_signal);
  }
#ifdef VPATCH_SANITIZED
  __sanitizer_set_death_callback(tell_seed);
#else
  std::signal(SIGSEGV, on_signal);
#endif
  Test test(*memory, core->vcpus, *options);
  return test.prepare() && test.run() ? 0 : 1;
}

}  // namespace
}  // namespace vpatch::mutation

int main(int argc, char** argv) {
  return vpatch::mutation::run(argc, argv);
}

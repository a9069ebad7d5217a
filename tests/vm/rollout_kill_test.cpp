// SPDX-License-Identifier: Apache-2.0
// The process that drives a rollout dies in each of its states; another one goes on from there.
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/rollout_fixture.h"

namespace vpatch::test {
namespace {

using std::chrono::milliseconds;

constexpr const char* kPatch = "vpatch_cum_v1";

enum class Way : std::uint8_t { there, back };

/// An instant of a rollout: so long after this news.
struct Instant {
  Way way = Way::there;
  std::string kind;  ///< of the canary's guest, or empty: the process was started
  milliseconds delay{0};
  bool all = false;     ///< all that it has started dies with it
  bool paused = false;  ///< somebody pauses it first
};

std::string text_of(const Instant& instant) {
  return fmt::format("{} ms after {}{}{}{}", instant.delay.count(),
                     instant.kind.empty() ? "the start" : instant.kind,
                     instant.way == Way::back ? ", on the way back" : "",
                     instant.all ? ", with all that it has started" : "",
                     instant.paused ? ", paused" : "");
}

/// Instants in each state. An apply takes a second or more: before, in and after its load.
std::vector<Instant> instants() {
  std::vector<Instant> all = {
      {.kind = "", .delay = milliseconds(400)},
      {.kind = "applying"},
      {.kind = "applying", .delay = milliseconds(900)},
      {.kind = "applying", .delay = milliseconds(1100), .all = true},
      {.kind = "applying", .delay = milliseconds(200), .paused = true},
      {.kind = "watching"},
      {.kind = "done", .delay = milliseconds(100)},  // the canary's soak
      {.way = Way::back, .kind = "reverting", .delay = milliseconds(700)},
  };
  const char* more = std::getenv("VPATCH_KILLS");  // NOLINT(concurrency-mt-unsafe)
  std::mt19937 random(6);                          // NOLINT(cert-msc32-c,cert-msc51-cpp)
  for (int left = more != nullptr ? std::atoi(more) : 0; left > 0; --left) {
    static const std::vector<std::string> kThere = {"", "applying", "applying", "watching", "done"};
    const bool back = random() % 4 == 0;
    all.push_back({.way = back ? Way::back : Way::there,
                   .kind = back ? "reverting" : kThere.at(random() % kThere.size()),
                   .delay = milliseconds(random() % 3000),
                   .all = random() % 3 == 0});
  }
  return all;
}

class RolloutKill : public RolloutTest {
 protected:
  Rollout new_rollout() const {
    return rollout("killed",
                   plan_for(guests(2), kPatch) + fmt::format(R"(canary: {{names: [{}], soak: 2s}}
healthy_for: 1s
apply: {{grace: 0, timeout: 60}}
)",
                                                             guest(0).name()));
  }

  /// Drives it by `verb` and kills that process at the instant, if it lives so long.
  static void kill_at(Rollout& rollout, const std::string& verb, const Instant& instant) {
    rollout.drive(verb);
    if (!instant.kind.empty()) {
      EXPECT_TRUE(rollout.comes(instant.kind)) << rollout.end();
    }
    if (instant.paused) {
      EXPECT_EQ(rollout.tell("pause").exit_code, 0);
    }
    std::this_thread::sleep_for(instant.delay);
    if (instant.all) {
      rollout.kill_all();
    } else {
      rollout.kill_driver();
    }
  }

  static bool is_there(const Rollout& rollout) { return rollout.tell("status").exit_code == 0; }
  static bool is_finished(const Rollout& rollout) {
    return rollout.status().at("finished").as_bool();
  }

  static void expect_patched(const Rollout& rollout) {
    expect_explained(rollout, guests(2), kPatch);
    for (const auto& [name, domain] : rollout.domains()) {
      EXPECT_EQ(domain.state, "done") << name << ": " << domain.text;
    }
    for (const FleetGuest* each : guests(2)) {
      const Applies applies = applies_of(*each, kPatch);
      EXPECT_LE(applies.done, 1U) << each->name();
      EXPECT_GE(applies.done + applies.cut_off, 1U) << each->name();
      EXPECT_THAT(registered_for(*each), testing::ElementsAre(kPatch)) << each->name();
    }
  }

  static void expect_as_before(const Rollout& rollout) {
    expect_explained(rollout, guests(2), kPatch);
    for (const auto& [name, domain] : rollout.domains()) {
      EXPECT_EQ(domain.state, "reverted") << name << ": " << domain.text;
    }
    for (const FleetGuest* each : guests(2)) {
      EXPECT_THAT(registered_for(*each), testing::IsEmpty()) << each->name();
    }
  }

  void there_and_back(const Instant& instant) {
    use_new_journal();
    Rollout rollout = new_rollout();
    if (instant.way == Way::back) {
      const ProcessResult there = rollout.drive_to_end();
      EXPECT_EQ(there.exit_code, 0) << there;
    } else {
      kill_at(rollout, "start", instant);
      if (!is_there(rollout) || !is_finished(rollout)) {
        const ProcessResult there = rollout.drive_to_end(is_there(rollout) ? "resume" : "start");
        EXPECT_EQ(there.exit_code, 0) << there;
      }
    }
    expect_patched(rollout);
    if (instant.way == Way::back) {
      kill_at(rollout, "rollback", instant);
    }
    if (instant.way == Way::there || !is_finished(rollout)) {
      const ProcessResult back =
          rollout.drive_to_end(instant.way == Way::there ? "rollback" : "resume");
      EXPECT_EQ(back.exit_code, 4) << back;
    }
    expect_as_before(rollout);
  }
};

TEST_F(RolloutKill, InEachStateAnotherOneGoesOn) {
  std::vector<std::string> before;
  for (const FleetGuest* each : guests(2)) {
    before.push_back(each->vm().fingerprint());
  }
  for (const Instant& instant : instants()) {
    SCOPED_TRACE(text_of(instant));
    const auto begin = std::chrono::steady_clock::now();
    there_and_back(instant);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    fmt::print("killed {}: {:.1f} s\n", text_of(instant), took.count());
    if (HasFailure()) {
      break;
    }
  }
  for (std::size_t index = 0; index < 2; ++index) {
    EXPECT_EQ(guest(index).vm().fingerprint(), before[index]);
    EXPECT_EQ(guest(index).vm().trouble(), "");
  }
}

}  // namespace
}  // namespace vpatch::test

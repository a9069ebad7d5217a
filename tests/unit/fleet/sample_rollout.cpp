// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/fleet/sample_rollout.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/fleet/measured_times.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using rollout::DomainId;
using rollout::DomainState;
using std::chrono::microseconds;
using std::chrono::seconds;

constexpr std::string_view kPlan =
    "name: cve-2026-1234\n"
    "files:\n"
    "  - {kernel: 6.1.0-56-cloud-amd64, file: /srv/livepatches/fix-6.1.ko}\n"
    "  - {kernel: 6.12.12+bpo-cloud-amd64, file: /srv/livepatches/fix-6.12.ko}\n"
    "connections: [\"qemu+ssh://root@host1/system\", \"qemu+ssh://root@host2/system\", "
    "\"qemu+ssh://root@host3/system\"]\n"
    "canary: {amount: 2, soak: 2m}\n"
    "waves:\n"
    "  - {amount: 10%, soak: 1m}\n"
    "  - {amount: 20%, soak: 1m}\n"
    "  - {amount: 30%, soak: 1m}\n"
    "  - {amount: 100%}\n"
    "limits: {parallel: 8, parallel_per_connection: 4, budget: 1}\n"
    "healthy_for: 30s\n"
    "checks:\n"
    "  - {name: http, command: [curl, -fsS, \"http://localhost/health?a=1&b=<2>\"], where: guest}\n"
    "on_failure: rollback\n";

/// Writes the story of a rollout as time goes on.
class Story {
 public:
  Story(std::size_t domains, SampleEnd end) : end_(end) {
    sample_.rollout.begin.domains.resize(domains);
    free_at_.fill(clock_);
  }

  SampleRollout tell();

 private:
  void describe();
  void place(DomainId id);
  void wave(std::uint32_t number);
  void one_domain(DomainId id, seconds begin);
  void patched(DomainId id, seconds begin);
  void failed(DomainId id, seconds begin);
  void roll_back();
  void stop_here();
  void event(seconds at, std::optional<DomainId> id, std::string kind, std::string text = {});
  void enter(DomainId id, seconds at, DomainState state, std::string text = {});
  json::object apply_report(const RolloutDomain& domain);
  RolloutDomain& domain(DomainId id) { return sample_.rollout.begin.domains[id]; }
  std::int64_t log_normal(double median, double spread) {
    return static_cast<std::int64_t>(
        std::lognormal_distribution<double>(std::log(median), spread)(random_));
  }

  SampleEnd end_;
  SampleRollout sample_;
  std::mt19937_64 random_{7};
  seconds clock_{20};  ///< since the rollout's begin
  std::array<seconds, 8> free_at_{};
  std::uint32_t order_ = 0;
  std::uint32_t failures_ = 0;
};

constexpr auto kBegin = rollout::Time(seconds(1795294800));

void Story::event(seconds at, std::optional<DomainId> id, std::string kind, std::string text) {
  std::string moment = iso_text(kBegin + at);
  moment.insert(moment.size() - 1, ".250000");
  sample_.events.push_back({std::move(moment), id, std::move(kind), std::move(text)});
}

void Story::enter(DomainId id, seconds at, DomainState state, std::string text) {
  event(at, id, std::string(rollout::to_string(state)), text);
  rollout::DomainRecord& record = domain(id).record;
  record.before = record.state;
  record.state = state;
  record.text = std::move(text);
  record.since = kBegin + at;
}

void Story::describe() {
  StoredRollout& rollout = sample_.rollout;
  rollout.id = RolloutId(12);
  rollout.user = "root";
  rollout.started_at = "2026-11-21T21:00:00.000017Z";
  rollout.begin.name = "cve-2026-1234";
  rollout.begin.plan = kPlan;
  rollout.begin.seed = "5eed";
  rollout.begin.vpatch_version = "0.1.0";
  rollout.begin.files = {{"/srv/livepatches/fix-6.1.ko", std::string(64, 'a'), "fix_61",
                          std::string(40, '1'), "6.1.0-56-cloud-amd64"},
                         {"/srv/livepatches/fix-6.12.ko", std::string(64, 'b'), "fix_612",
                          std::string(40, '2'), "6.12.12+bpo-cloud-amd64"}};
}

/// Its name, host, kernel and wave: 2, then tenths of the rest.
void Story::place(DomainId id) {
  constexpr std::array<std::string_view, 4> kRoles = {"web", "db", "cache", "build-worker"};
  RolloutDomain& domain = this->domain(id);
  domain.name = fmt::format("{}{:02}", kRoles.at(id % kRoles.size()), id / kRoles.size());
  domain.identity = fmt::format("5f2a7d10-0000-4000-8000-{:012x}", id);
  domain.connection = fmt::format("qemu+ssh://root@host{}/system", id % 3 + 1);
  domain.file = id % 5 < 3 ? 0 : 1;
  domain.release = sample_.rollout.begin.files[*domain.file].release;
  const std::size_t tenth = std::size_t{10} * id / sample_.rollout.begin.domains.size();
  domain.wave = id < 2 ? 0 : tenth < 1 ? 1 : tenth < 3 ? 2 : tenth < 6 ? 3 : 4;
  if (id % 17 == 16) {
    domain.record.state = DomainState::off;
    domain.record.text = "it is shut off";
  } else if (id % 29 == 28) {
    domain.record.state = DomainState::unmatched;
    domain.record.text = "no file of the plan is for kernel 5.10.0-33-cloud-amd64";
    domain.release = "5.10.0-33-cloud-amd64";
    domain.file.reset();
  } else if (id % 31 == 30) {
    domain.record.state = DomainState::already;
  }
}

json::object Story::apply_report(const RolloutDomain& domain) {
  const bool old = domain.file == std::optional<std::size_t>(0);
  const bool paused = random_() % 4 == 0;
  const std::int64_t transition = log_normal(old ? 9000 : 3500, 0.9);
  return {{"schema", 1},
          {"verb", "apply"},
          {"domain", domain.name},
          {"outcome", "done"},
          {"exit_code", 0},
          {"summary", "applied"},
          {"transition_us", transition},
          {"transition", json::object{{"lasted_us", transition},
                                      {"paused_us", paused ? log_normal(1800, 0.5) : 0}}},
          {"blockers", json::object{{"count", 0}, {"tasks", json::array()}}}};
}

void Story::patched(DomainId id, seconds begin) {
  domain(id).record.outcome = Outcome::done;
  domain(id).record.touched = true;
  domain(id).apply_report = apply_report(domain(id));
  const seconds applied = begin + seconds(2 + random_() % 5);
  enter(id, applied, DomainState::watching);
  enter(id, applied + seconds(30), DomainState::done);
}

json::object stalled_report() {
  const json::array stack = {"wait_woken+0x50/0x60",
                             "n_tty_read+0x4b8/0x710",
                             "tty_read+0x12c/0x2d0",
                             "vfs_read+0x237/0x2e0",
                             "ksys_read+0x6b/0xe0",
                             "do_syscall_64+0x55/0xb0",
                             "entry_SYSCALL_64_after_hwframe+0x6e/0xd8"};
  return {{"schema", 1},
          {"verb", "apply"},
          {"outcome", "stalled-reverted"},
          {"exit_code", 4},
          {"summary", "the transition did not end within 90 s and was reversed"},
          {"hint", "try again with --when-clear, or stop the tasks below first"},
          {"findings", json::array{json::object{{"severity", "warning"},
                                                {"id", "callbacks"},
                                                {"text", "fix_61 has a pre-patch callback"},
                                                {"hint", "read what it does when it fails"}},
                                   json::object{{"severity", "note"},
                                                {"id", "ftrace"},
                                                {"text", "n_tty_read is also hooked by ftrace"},
                                                {"hint", ""}}}},
          {"blockers",
           json::object{
               {"count", 9},
               {"tasks", json::array{json::object{{"tid", 412},
                                                  {"name", "agetty"},
                                                  {"state", "S"},
                                                  {"stack", stack},
                                                  {"reason", "on-stack"},
                                                  {"why",
                                                   "n_tty_read, which is changed, is on its "
                                                   "stack"}},
                                     json::object{{"tid", 977},
                                                  {"name", "kworker/u8:3"},
                                                  {"state", "D"},
                                                  {"stack", json::array{"io_schedule+0x46/0x70"}},
                                                  {"reason", "unreliable"},
                                                  {"why", "its stack proves nothing"}}}}}},
          {"kernel_log", json::array{"livepatch: enabling patch 'fix_61'",
                                     "livepatch: 'fix_61': starting patching transition",
                                     "livepatch: signaling remaining tasks"}}};
}

json::object unhealthy_report() {
  return {
      {"schema", 1},
      {"verb", "health"},
      {"health", "fail"},
      {"exit_code", 8},
      {"text", "log: 1 WARNING since the mark"},
      {"checks",
       json::array{
           json::object{{"id", "domain"}, {"health", "pass"}, {"text", ""}},
           json::object{{"id", "log"}, {"health", "fail"}, {"text", "1 WARNING since the mark"}},
           json::object{{"id", "agent"}, {"health", "pass"}, {"text", ""}}}},
      {"command", json::object{{"exit_code", 1}, {"output", "curl: (22) error: 500"}}},
      {"kernel_log",
       json::array{"------------[ cut here ]------------",
                   "WARNING: CPU: 1 PID: 977 at fs/seq_file.c:184 seq_read_iter+0x3f1/0x4a0",
                   "Modules linked in: fix_612(OEK) vpatch_guest(OE)", "Call Trace: <TASK>",
                   " klp_seq_read+0x21/0x90 [fix_612]", "---[ end trace 0000000000000000 ]---"}}};
}

void Story::failed(DomainId id, seconds begin) {
  rollout::DomainRecord& record = domain(id).record;
  record.failure = true;
  ++failures_;
  if (failures_ % 3 == 0) {
    patched(id, begin);
    sample_.events.pop_back();
    domain(id).health_report = unhealthy_report();
    enter(id, begin + seconds(17), DomainState::failed, "log: 1 WARNING since the mark");
  } else if (failures_ % 3 == 1) {
    record.outcome = Outcome::stalled_reverted;
    domain(id).apply_report = stalled_report();
    enter(id, begin + seconds(92), DomainState::failed,
          "the transition did not end within 90 s and was reversed");
  } else {
    event(begin + seconds(15), std::nullopt, "connection-lost",
          domain(id).connection + ": nothing heard for 15 s");
    enter(id, begin + seconds(15), DomainState::unknown, "connection lost");
    event(begin + seconds(75), std::nullopt, "connection-up", domain(id).connection);
    record.outcome = Outcome::unreachable;
    enter(id, begin + seconds(80), DomainState::failed, "the guest's agent does not answer");
  }
}

void Story::one_domain(DomainId id, seconds begin) {
  domain(id).record.order = ++order_;
  domain(id).record.attempts = 1;
  enter(id, begin, DomainState::applying);
  const std::size_t often = std::max<std::size_t>(sample_.rollout.begin.domains.size() / 5, 11);
  if (id % often == 9 || id % often == 10) {
    failed(id, begin);
  } else {
    patched(id, begin);
  }
  clock_ = std::max(clock_, seconds((domain(id).record.since - kBegin).count()));
}

void Story::wave(std::uint32_t number) {
  if (number > 0) {
    event(clock_, std::nullopt, "wave", std::to_string(number));
  }
  sample_.rollout.record.wave = number;
  // A large fleet has more hosts: each wave takes as long as one of 60 domains.
  const std::size_t together = std::max<std::size_t>(1, sample_.rollout.begin.domains.size() / 60);
  free_at_.fill(clock_);
  std::size_t begun = 0;
  for (DomainId id = 0; id < sample_.rollout.begin.domains.size(); ++id) {
    if (domain(id).wave != number || domain(id).record.state != DomainState::waiting) {
      continue;
    }
    auto* slot = std::ranges::min_element(free_at_);
    one_domain(id, *slot);
    if (++begun % together == 0) {
      *slot = domain(id).record.since - kBegin;
    }
  }
  clock_ += seconds(60);
}

void Story::roll_back() {
  rollout::RolloutRecord& record = sample_.rollout.record;
  record.course = rollout::Course::back;
  record.finished = true;
  event(clock_, std::nullopt, "rollback", "more failures than the budget of 1");
  for (DomainId id = 0; id < sample_.rollout.begin.domains.size(); ++id) {
    rollout::DomainRecord& one = domain(id).record;
    if (one.state == DomainState::waiting) {
      enter(id, clock_, DomainState::left_alone);
    } else if (one.touched) {
      const seconds begin = clock_ + seconds(id);
      enter(id, begin, DomainState::reverting);
      if (id == 5) {
        one.outcome = Outcome::stalled_reverted;
        enter(id, begin + seconds(40), DomainState::failed, "the revert stalled");
        one.before = DomainState::reverting;
        domain(id).revert_report = stalled_report();
      } else {
        one.touched = false;
        enter(id, begin + seconds(3 + id % 4), DomainState::reverted);
      }
    }
  }
  clock_ += seconds(sample_.rollout.begin.domains.size() + 10);
  event(clock_, std::nullopt, "finished");
  sample_.rollout.ended_at = iso_text(kBegin + clock_);
}

/// Some are at work still; the clock stands where they are.
void Story::stop_here() {
  rollout::RolloutRecord& record = sample_.rollout.record;
  record.paused = true;
  record.wave = 3;
  event(clock_, std::nullopt, "paused", "more failures than the budget of 1");
  DomainId id = 0;
  for (std::size_t busy = 0; busy < 14 && id < sample_.rollout.begin.domains.size(); ++id) {
    if (domain(id).record.state == DomainState::waiting) {
      domain(id).record.order = ++order_;
      const bool doubtful = busy == 3;
      enter(id, clock_ - seconds(busy * 7), DomainState::applying);
      if (doubtful) {
        enter(id, clock_, DomainState::unknown, "connection lost");
      } else if (busy % 3 == 2) {
        domain(id).apply_report = apply_report(domain(id));
        enter(id, clock_, DomainState::watching);
      } else {
        sample_.doing[id] =
            fmt::format("transition: {} tasks pending, kworker/{}:1 (on-stack)", busy + 1, busy);
      }
      ++busy;
    }
  }
}

SampleRollout Story::tell() {
  describe();
  for (DomainId id = 0; id < sample_.rollout.begin.domains.size(); ++id) {
    place(id);
  }
  event(seconds(0), std::nullopt, "started", "by root");
  rollout::RolloutRecord& record = sample_.rollout.record;
  const std::uint32_t last = end_ == SampleEnd::done ? 4 : end_ == SampleEnd::rolled_back ? 3 : 2;
  for (std::uint32_t number = 0; number <= last; ++number) {
    wave(number);
    if (number == 1) {
      event(clock_, std::nullopt, "paused", "root: lunch & <look at the graphs>");
      clock_ += seconds(95);
      event(clock_, std::nullopt, "resumed", "root");
    }
  }
  if (end_ == SampleEnd::done) {
    record.finished = true;
    record.wave = 5;
    event(clock_, std::nullopt, "finished");
    sample_.rollout.ended_at = iso_text(kBegin + clock_);
  } else {
    record.cause = rollout::Cause::budget;
    for (DomainId id = 0; id < sample_.rollout.begin.domains.size(); ++id) {
      record.domain = domain(id).record.failure ? std::optional(id) : record.domain;
    }
    record.text = fmt::format("{} failures", failures_);
    end_ == SampleEnd::rolled_back ? roll_back() : stop_here();
  }
  sample_.now = kBegin + clock_ + seconds(4);
  std::ranges::stable_sort(sample_.events, {}, &RolloutEvent::at);
  return std::move(sample_);
}

}  // namespace

SampleRollout sample_rollout(std::size_t domains, SampleEnd end) {
  return Story(domains, end).tell();
}

}  // namespace vpatch::fleet

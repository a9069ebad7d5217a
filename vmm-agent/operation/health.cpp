// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/health.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/health.h"
#include "qmp/guest_agent.h"
#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/guest/memory_state.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr int kTries = 5;
constexpr milliseconds kBetweenTries{500};
constexpr milliseconds kPatience{30'000};
/// A guest whose CPUs all sleep does not count its ticks: its kernel wakes for something within a
/// second or two.
constexpr milliseconds kTickPatience{10'000};
constexpr milliseconds kBetweenLooks{50};
constexpr const char* kBootIdFile = "/proc/sys/kernel/random/boot_id";
constexpr std::size_t kBootIdLength = 36;
constexpr std::size_t kMaxOutput = 4096;

/// Calls until it succeeds, a few times and no longer than kPatience: the guest may change under
/// the reader, or its agent be busy.
template <class Call>
auto try_again(Clock& clock, const std::stop_token& stop, const Call& call) {
  const auto give_up = clock.now() + kPatience;
  auto result = call();
  for (int tries = 1; !result && tries < kTries && !stop.stop_requested() && clock.now() < give_up;
       ++tries) {
    clock.wait(kBetweenTries, stop);
    result = call();
  }
  return result;
}

Result<introspect::Health> read_health(GuestView& view) {
  const auto& layout = view.kernel().layouts().health;
  auto health = layout ? introspect::read_health(view.kernel().memory(), *layout)
                       : std::unexpected(layout.error());
  return health ? Result<introspect::Health>(*health)
                : std::unexpected(from_introspect(health.error()));
}

Result<introspect::KernelLog> read_log_from(GuestView& view, std::uint64_t from) {
  const auto& layout = view.kernel().layouts().log;
  auto log = layout ? introspect::read_kernel_log(view.kernel().memory(), *layout, from)
                    : std::unexpected(layout.error());
  return log ? Result<introspect::KernelLog>(*std::move(log))
             : std::unexpected(from_introspect(log.error()));
}

/// Fills in `rebooted` and `log`.
void read_log_since(GuestView& view, const HealthSince& since, std::string_view boot_id,
                    MemorySigns& signs) {
  const std::uint64_t from = since.log_sequence.value_or(0);
  signs.rebooted = has_rebooted(since, boot_id, from);
  signs.log = read_log_from(view, signs.rebooted ? 0 : from);
  if (signs.log && !signs.rebooted && has_rebooted(since, boot_id, signs.log->next_sequence)) {
    signs.rebooted = true;
    signs.log = read_log_from(view, 0);
  }
  if (!signs.log) {  // it moves fast, perhaps
    signs.log = read_log_from(view, signs.rebooted ? 0 : from);
  }
}

/// One look at guest memory. `boot_id`, of the boot that `before` saw (null: none was seen), is
/// brought up to date where memory shows it.
Result<MemorySigns> look(GuestView& view, const HealthSince& since, const qmp::CallOptions& calls,
                         const MemorySigns* before, std::string& boot_id) {
  if (auto fresh = view.refresh(calls); !fresh) {
    return std::unexpected(fresh.error());
  }
  if (before != nullptr && before->boot_stamp != view.kernel().facts().boot_stamp) {
    boot_id.clear();
  }
  auto state = read_memory_state(view);
  if (!state) {
    return std::unexpected(state.error());
  }
  const auto health = read_health(view);
  if (!health) {
    return std::unexpected(health.error());
  }
  if (!state->guest.boot_id.empty()) {
    boot_id = state->guest.boot_id;
  }
  MemorySigns signs{.release = state->guest.release,
                    .boot_stamp = view.kernel().facts().boot_stamp,
                    .taint = health->taint,
                    .panicked = health->panicked,
                    .ticks = health->ticks,
                    .patches = std::move(state->guest.patches)};
  read_log_since(view, since, boot_id, signs);
  return signs;
}

/// Whether the guest's clock has gone on since `before`; unset when that cannot be told.
std::optional<bool> is_ticking(GuestView& view, const MemorySigns& before, Clock& clock,
                               const qmp::CallOptions& calls) {
  const auto give_up = clock.now() + kTickPatience;
  std::optional<bool> ticking;
  for (;;) {
    if (!view.refresh(calls)) {
      return std::nullopt;
    }
    if (view.kernel().facts().boot_stamp != before.boot_stamp) {
      return true;
    }
    if (const auto health = read_health(view); health && health->ticks && before.ticks) {
      ticking = *health->ticks != *before.ticks;
    }
    if (ticking.value_or(false) || calls.stop.stop_requested() || clock.now() >= give_up) {
      return calls.stop.stop_requested() && !ticking.value_or(false) ? std::nullopt : ticking;
    }
    clock.wait(kBetweenLooks, calls.stop);
  }
}

std::string printable_output(std::string_view text) {
  std::string clean(text.substr(0, kMaxOutput));
  std::ranges::replace_if(
      clean, [](char c) { return (c < ' ' || c > '~') && c != '\n' && c != '\t'; }, '?');
  return clean;
}

/// The looks at one domain, in their order.
class HealthLook {
 public:
  HealthLook(Domain& domain, const BootCache& cache, const HealthOptions& options, Clock& clock,
             const qmp::CallOptions& calls)
      : domain_(domain), cache_(cache), options_(options), clock_(clock), calls_(calls) {
    signs_.name = domain.name();
    signs_.command_given = !options.command.empty();
  }

  HealthReport run() {
    signs_.busy = DomainLock::holder(domain_.identity());
    signs_.domain = domain_.run_state(calls_);
    const bool there = signs_.domain && *signs_.domain != RunState::shut_off;
    if (there) {
      look_from_outside();
    }
    const bool runs = signs_.domain && *signs_.domain == RunState::running;
    const bool panicked = memory() != nullptr && memory()->panicked;
    if (runs && !panicked) {
      look_from_inside();
    }
    if (memory() != nullptr && runs) {
      look_again();
    }
    return judge_health(signs_, options_.since);
  }

 private:
  const MemorySigns* memory() const {
    return signs_.memory && *signs_.memory ? &**signs_.memory : nullptr;
  }

  void look_from_outside() {
    auto view = GuestView::open(domain_, cache_, calls_);
    if (!view) {
      signs_.memory = std::unexpected(view.error());
      return;
    }
    view_.emplace(*std::move(view));
    signs_.memory = try_again(clock_, calls_.stop, [this] { return look_once(); });
    view_->keep(cache_);
  }

  Result<MemorySigns> look_once() {
    return look(*view_, options_.since, calls_, memory(), signs_.boot_id);
  }

  void look_from_inside() {
    const auto channel = domain_.agent(calls_);
    if (!channel) {
      signs_.agent = std::unexpected(channel.error());
      return;
    }
    ask_agent(**channel, options_, clock_, calls_, signs_);
  }

  /// After the agent's answers: what happened meanwhile counts too.
  void look_again() {
    signs_.ticking = is_ticking(*view_, *memory(), clock_, calls_);
    auto again = try_again(clock_, calls_.stop, [this] { return look_once(); });
    // A failure that was seen before is not forgotten.
    if (again || judge_health(signs_, options_.since).health != Verdict::fail) {
      signs_.memory = std::move(again);
    }
    if (!signs_.ticking.value_or(true)) {
      signs_.domain = domain_.run_state(calls_);
      if (!signs_.domain || *signs_.domain != RunState::running) {
        signs_.ticking.reset();  // somebody has stopped it meanwhile
      }
    }
  }

  Domain& domain_;
  const BootCache& cache_;
  const HealthOptions& options_;
  Clock& clock_;
  qmp::CallOptions calls_;
  HealthSigns signs_;
  std::optional<GuestView> view_;
};

}  // namespace

void ask_agent(qmp::Channel& channel, const HealthOptions& options, Clock& clock,
               const qmp::CallOptions& calls, HealthSigns& signs) {
  qmp::GuestAgent agent(channel);
  const auto answer = try_again(clock, calls.stop, [&] { return agent.ping(calls); });
  if (!answer) {
    signs.agent = std::unexpected(from_qmp(answer.error()));
    return;
  }
  signs.agent.emplace();
  if (signs.boot_id.empty()) {
    const auto text = agent.read_file(kBootIdFile, kBootIdLength + 1, calls);
    if (text && text->size() >= kBootIdLength) {
      signs.boot_id = printable_output(std::string_view(*text).substr(0, kBootIdLength));
    }
  }
  if (options.command.empty()) {
    return;
  }
  const qmp::ExecRequest request{.path = options.command.front(),
                                 .arguments = {options.command.begin() + 1, options.command.end()}};
  const auto ended = agent.exec(request, {options.command_timeout, calls.stop});
  if (!ended) {
    signs.command = std::unexpected(from_qmp(ended.error()));
    return;
  }
  signs.command = CommandEnd{.exit_code = ended->exit_code,
                             .output = printable_output(ended->out + ended->err)};
}

HealthReport check_health(Domain& domain, const BootCache& cache, const HealthOptions& options,
                          Clock& clock, const qmp::CallOptions& calls) {
  return HealthLook(domain, cache, options, clock, calls).run();
}

HealthReport unreachable_health(const std::string& name, const Error& error,
                                const HealthOptions& options) {
  HealthSigns signs;
  signs.name = name;
  signs.domain = std::unexpected(error);
  signs.command_given = !options.command.empty();
  return judge_health(signs, options.since);
}

}  // namespace vpatch

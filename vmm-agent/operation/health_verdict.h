// SPDX-License-Identifier: Apache-2.0
// Whether a guest is healthy, by what was seen of it: pure functions of plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/kernel/kernel_log.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"

namespace vpatch {

/// In rising order of weight: of several the greatest is the whole's. What could not be looked at
/// is `inconclusive`, and never `pass`.
enum class Verdict : std::uint8_t { pass, inconclusive, fail };

std::string_view to_string(Verdict verdict);

/// The program's exit code for it.
Outcome outcome_of(Verdict verdict);

/// What a guest is held against: how it was before a change. What is not given is not judged.
struct HealthSince {
  std::string boot_id{};                        ///< empty: not given
  std::optional<std::uint64_t> log_sequence{};  ///< the first record of the kernel log that counts
  std::optional<std::uint64_t> taint{};

  bool given() const { return !boot_id.empty() || log_sequence || taint; }
};

/// What guest memory showed in one look.
struct MemorySigns {
  std::string release{};
  std::uint64_t boot_stamp = 0;  ///< introspect::BootFacts::boot_stamp
  std::uint64_t taint = 0;
  bool panicked = false;
  std::optional<std::uint64_t> ticks{};
  std::vector<GuestPatch> patches{};
  bool rebooted = false;  ///< since the mark: has_rebooted()
  /// From the mark on; all that is there without one, or when the guest has rebooted.
  Result<introspect::KernelLog> log{};
};

/// How a command in the guest ended.
struct CommandEnd {
  std::optional<int> exit_code{};  ///< unset: a signal ended it
  std::string output{};            ///< the first 4 KiB, printable
};

/// All that was seen. What is not set was not looked at.
struct HealthSigns {
  std::string name{};  ///< of the domain
  Result<RunState> domain = RunState::other;
  std::string busy{};  ///< DomainLock::holder()
  std::optional<Result<MemorySigns>> memory{};
  std::string boot_id{};                ///< empty: not known
  std::optional<bool> ticking{};        ///< the guest's clock goes on
  std::optional<Result<void>> agent{};  ///< whether it answers
  bool command_given = false;
  std::optional<Result<CommandEnd>> command{};
};

/// What one check came to.
struct HealthCheck {
  std::string id;  ///< domain, memory, boot, panic, log, taint, clock, agent or command
  Verdict health = Verdict::inconclusive;
  std::string text;  ///< one line
};

struct HealthReport {
  Verdict health = Verdict::inconclusive;
  std::string text{};   ///< one line: why
  std::string state{};  ///< to_string(RunState); empty: not known
  std::string busy{};   ///< which vpatch works on the domain right now; empty: none
  std::string boot_id{};
  std::optional<std::uint64_t> log_sequence{};  ///< of the next record; unset: not known
  std::optional<std::uint64_t> taint{};         ///< unset: not known
  std::string release{};
  std::vector<HealthCheck> checks{};
  std::vector<std::string> kernel_log{};  ///< lines that explain a failure
  std::vector<GuestPatch> patches{};
  std::optional<CommandEnd> command{};
};

/// Whether the guest has rebooted since: another boot id, or a kernel log that has not come so far.
bool has_rebooted(const HealthSince& since, std::string_view boot_id, std::uint64_t next_sequence);

HealthReport judge_health(const HealthSigns& signs, const HealthSince& since);

}  // namespace vpatch

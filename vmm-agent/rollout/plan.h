// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/window.h"

namespace vpatch::rollout {

/// A number of domains, or a part of those that there are. Written as "5" or "10%".
struct Amount {
  enum class Unit : std::uint8_t { domains, percent };
  std::uint32_t value = 0;
  Unit unit = Unit::domains;

  /// Of `all`: a percentage is rounded up, and never more than `all`.
  std::uint64_t of(std::uint64_t all) const;

  friend bool operator==(const Amount&, const Amount&) = default;
};

/// Which livepatch file goes to which kernel.
struct PlannedFile {
  std::string kernel;  ///< uname -r, or the build id of the kernel (lower-case hexadecimal)
  std::filesystem::path file;

  friend bool operator==(const PlannedFile&, const PlannedFile&) = default;
};

/// Which domains: those that one of `names` or one of `groups` takes, but none of `except`. What
/// has neither names nor groups takes all of the connections.
struct Selection {
  std::vector<std::string> connections;  ///< libvirt URIs
  std::vector<std::string> names;        ///< globs: * ? [a-z]
  std::vector<std::string> groups;       ///< of vpatch's metadata
  std::vector<std::string> except;       ///< globs

  friend bool operator==(const Selection&, const Selection&) = default;
};

/// What is left of a rollout when its budget is spent or its canary fails.
enum class OnFailure : std::uint8_t { pause, abort, rollback };

/// Another rollout holds a domain of this one.
enum class OnOverlap : std::uint8_t { refuse, queue };

struct Canary {
  Selection domains;               ///< names and groups, of those that the plan takes
  std::optional<Amount> amount{};  ///< instead of `domains`: so many
  std::chrono::seconds soak{600};  ///< from the health of the last one to the first wave

  friend bool operator==(const Canary&, const Canary&) = default;
};

struct Wave {
  /// Of all domains but the canary, not added up over waves; the last wave takes the rest.
  Amount amount{100, Amount::Unit::percent};
  std::chrono::seconds soak{0};

  friend bool operator==(const Wave&, const Wave&) = default;
};

/// A program whose exit code tells: 0 healthy, 1 unhealthy, anything else and a timeout:
/// inconclusive.
struct HealthCommand {
  std::string name;
  std::vector<std::string> argv;
  bool in_guest = false;  ///< through the guest agent; else on the host that drives the rollout
  std::chrono::seconds timeout{30};

  friend bool operator==(const HealthCommand&, const HealthCommand&) = default;
};

struct Limits {
  std::uint32_t parallel = 8;  ///< domains at work at one time
  std::uint32_t parallel_per_connection = 2;
  /// Failures, fleet-wide, that do not stop it: one more does.
  Amount budget{1, Amount::Unit::domains};
  std::chrono::seconds per_domain{600};  ///< one apply, or one revert
  std::chrono::seconds progress{3600};   ///< without one domain more that is done: a failure

  friend bool operator==(const Limits&, const Limits&) = default;
};

/// A rollout as it was asked for. All of it is written in docs/rollout.md.
struct Plan {
  std::string name;
  std::vector<PlannedFile> files;
  Selection selection;
  std::optional<Canary> canary;
  std::vector<Wave> waves;  ///< at least one
  Limits limits;
  std::chrono::seconds healthy_for{60};  ///< each domain, after its patch
  std::vector<HealthCommand> checks;
  OnFailure on_failure = OnFailure::pause;
  OnOverlap on_overlap = OnOverlap::refuse;
  std::optional<MaintenanceWindow> window;
  bool persist = true;  ///< register the livepatch for each domain
  /// Words of the command line of `vpatch apply`, one for each option: "--timeout=90s".
  std::vector<std::string> apply_options;

  friend bool operator==(const Plan&, const Plan&) = default;
};

/// The longest plan, in bytes.
inline constexpr std::size_t kLongestPlan = std::size_t{1} << 20;

/// Reads a plan. Unknown keys, repeated keys, a second document, wrong types and values out of
/// range are errors that name line, column and what is allowed; relative paths of files are taken
/// from `folder`, an absolute path. No file is looked at. Outcome::usage.
Result<Plan> parse_plan(std::string_view yaml, const std::filesystem::path& folder);

/// The same as YAML, for the record: parse_plan() of any folder gives an equal plan.
std::string to_yaml(const Plan& plan);

}  // namespace vpatch::rollout

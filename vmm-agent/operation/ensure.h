// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm-agent/operation/apply.h"

namespace vpatch {

/// The newest load of a livepatch file into a domain, as it was recorded.
struct LastLoad {
  enum class End : std::uint8_t {
    well,     ///< nothing speaks against the patch
    trouble,  ///< the guest crashed, fell silent or warned within the watch after it
    unknown,  ///< vpatch did not live to see it
  };
  End end = End::well;
  std::string at{};       ///< when it began, UTC
  std::string boot_id{};  ///< of the guest that it was loaded into
  std::string text{};     ///< how it ended
  bool in_force = false;  ///< it put the patch in force
};

/// What decides about a registered livepatch.
struct EnsureFacts {
  std::string patch;
  std::string patch_release;  ///< the kernel it was built for
  std::string guest_release;
  std::string boot_id;    ///< of the guest now
  bool in_force = false;  ///< this very build
  std::optional<LastLoad> last{};
  bool retry_failed = false;
};

enum class EnsureAction : std::uint8_t {
  nothing,       ///< it is in force
  taken_out,     ///< it was in force since the guest booted, and has been taken out of force
  apply,         ///< it is missing: the guest has rebooted, say
  other_kernel,  ///< the guest now runs a kernel that it was not built for
  hold_back,     ///< its last load did the guest harm, or may have
};

struct EnsureDecision {
  EnsureAction action = EnsureAction::nothing;
  std::string text{};  ///< why; empty for apply
  std::string hint{};
};

EnsureDecision decide_ensure(const EnsureFacts& facts);

struct EnsureOptions {
  ApplyOptions apply;
  std::chrono::milliseconds settle{10'000};  ///< how long the guest is watched after a load
  bool retry_failed = false;
};

/// Looks at the guest, and changes nothing.
Result<EnsureDecision> plan_ensure(Context& context, const LivepatchFile& file,
                                   const std::optional<LastLoad>& last, bool retry_failed);

/// Brings a registered livepatch back in force, where plan_ensure() says so. The caller holds the
/// domain's lock.
Report ensure(Context& context, const LivepatchFile& file, const std::optional<LastLoad>& last,
              const EnsureOptions& options);

/// The report of a decision to do nothing, or not to apply.
Report report_of(const EnsureDecision& decision, const std::string& domain,
                 const std::string& patch);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vpatch {

/// Where one livepatch stands; the four combinations of the kernel's `enabled` and `transition`.
enum class PatchPhase : std::uint8_t { patching, patched, unpatching, unpatched };

std::string_view to_string(PatchPhase phase);

/// One folder of /sys/kernel/livepatch/<patch>/.
struct GuestPatchedObject {
  std::string name;
  std::optional<bool> patched;  ///< false: the module is not loaded yet. Unset before Linux 6.1.
  std::vector<std::string> functions;  ///< "name,position" as the kernel shows them
};

/// One livepatch as the guest's sysfs shows it.
struct GuestPatch {
  std::string name;
  bool enabled = false;
  bool transition = false;
  std::optional<bool> replace{};               ///< where the kernel shows it (6.12 does)
  bool forced = false;                         ///< klp_patch.forced; only guest memory shows it
  std::optional<std::uint32_t> stack_order{};  ///< where the kernel shows it (6.14 and later)
  std::vector<GuestPatchedObject> objects{};
  std::string build_id{};  ///< of its module, lower-case hexadecimal; only guest memory shows it

  PatchPhase phase() const {
    if (transition) {
      return enabled ? PatchPhase::patching : PatchPhase::unpatching;
    }
    return enabled ? PatchPhase::patched : PatchPhase::unpatched;
  }
};

/// Whether the patch is in force and the object's module is not loaded: it is patched when it
/// comes.
bool is_waiting(const GuestPatch& patch, const GuestPatchedObject& object);

/// One line of /proc/modules.
struct GuestModule {
  std::string name;
  std::uint32_t references = 0;
  std::string flags;  ///< taint letters: O out of tree, E unsigned, K livepatch, ...
  bool live = true;   ///< neither being loaded nor unloaded

  bool is_livepatch() const { return flags.find('K') != std::string::npos; }
};

/// What one look at the guest through its agent saw. The guest wrote all of it: names and texts are
/// printable, counts and sizes capped, but nothing here is to be believed further than that.
struct GuestState {
  std::string release;  ///< uname -r
  std::string boot_id;  ///< changes with each boot
  std::uint64_t tainted = 0;
  double uptime_seconds = 0;
  bool has_livepatch = false;  ///< /sys/kernel/livepatch exists
  std::vector<GuestPatch> patches;
  std::vector<GuestModule> modules;
  /// Files of /sys/kernel/vpatch/ by name; empty when the guest module is not loaded.
  std::map<std::string, std::string, std::less<>> guest_module;

  const GuestPatch* find_patch(std::string_view name) const;
  const GuestModule* find_module(std::string_view name) const;
  /// The patch whose transition runs; the kernel allows one at a time.
  const GuestPatch* in_transition() const;
};

/// A task not yet moved by the running transition, as /proc shows it.
struct PendingTask {
  std::uint32_t tid = 0;
  std::string name;     ///< comm
  std::string state{};  ///< "S (sleeping)"
  std::vector<std::string>
      stack{};           ///< innermost first, "function+0x1/0x2"; empty for a running task
  std::string reason{};  ///< introspect::BlockReason as a word; empty when it was not looked at
  std::string why{};     ///< the same for people: "pipe_read is on its stack"
  /// Since it was first seen pending; zero where nobody watched.
  std::chrono::microseconds pending_for{0};
};

/// "name (tid, state): why", or where it is, for one pending task.
std::string describe(const PendingTask& task);

struct PendingTasks {
  std::size_t count = 0;           ///< of all
  std::vector<PendingTask> first;  ///< details of the first few
};

/// Parse what the scripts of agent_guest.cpp print: lines "key<TAB>value". Unknown keys are passed
/// over; unprintable bytes become '?', and what goes over a cap (4096 entries of a kind, 512 bytes
/// a value) is dropped.
GuestState parse_guest_state(std::string_view text);
PendingTasks parse_pending_tasks(std::string_view text);

/// Taint bits a livepatch sets by being loaded: LIVEPATCH, OOT_MODULE, UNSIGNED_MODULE.
inline constexpr std::uint64_t kExpectedTaint = (1U << 15) | (1U << 12) | (1U << 13);

/// The letters of a taint mask as the kernel prints them, "W" for a warning and so on.
std::string taint_letters(std::uint64_t mask);

/// Kernel log lines that tell of trouble: BUG, WARNING, Oops, lockups, call traces.
std::vector<std::string> trouble_in_log(const std::vector<std::string>& lines);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// Caps on what is believed.
inline constexpr std::size_t kMaxPatches = 256;
inline constexpr std::size_t kMaxPatchedObjects = 4096;     ///< of one patch
inline constexpr std::size_t kMaxPatchedFunctions = 16384;  ///< of one object
inline constexpr std::size_t kMaxFuncStack = 256;
inline constexpr std::size_t kMaxFuncsInAll = 65536;  ///< of all patches together
inline constexpr std::size_t kMaxKlpStates = 4096;    ///< of one patch

/// One function of a livepatch (struct klp_func).
struct PatchedFunction {
  GuestVirtAddr address;  ///< of its struct klp_func
  std::string name;       ///< old_name, printable
  std::uint64_t sympos = 0;
  GuestVirtAddr old_func;                    ///< the original; 0 while its module is not loaded
  GuestVirtAddr new_func;                    ///< equal to old_func for a nop
  std::uint64_t old_size = 0, new_size = 0;  ///< bytes
  bool patched = false;                      ///< on its func_stack
  bool transition = false;
  bool nop = false;
};

/// Which callbacks of an object are set (struct klp_callbacks).
struct KlpCallbacks {
  bool pre_patch = false, post_patch = false, pre_unpatch = false, post_unpatch = false;

  bool any() const { return pre_patch || post_patch || pre_unpatch || post_unpatch; }
  friend bool operator==(const KlpCallbacks&, const KlpCallbacks&) = default;
};

/// What a livepatch says of a system state that it changes (struct klp_state).
struct KlpState {
  std::uint64_t id = 0;
  std::uint32_t version = 0;

  friend bool operator==(const KlpState&, const KlpState&) = default;
};

/// One object (struct klp_object): the kernel itself, or a module.
struct PatchedObject {
  std::string name;      ///< of the module; "vmlinux" for the kernel
  bool patched = false;  ///< false while the module is not loaded
  KlpCallbacks callbacks;
  std::vector<PatchedFunction> functions;
};

/// One livepatch (struct klp_patch), in the kernel's order: oldest first.
struct LivePatch {
  GuestVirtAddr address;
  std::string name;      ///< of its module
  GuestVirtAddr module;  ///< its struct module
  bool enabled = false;
  bool forced = false;
  bool replace = false;
  std::vector<KlpState> states;  ///< empty also in a kernel without them (before 5.5)
  std::vector<PatchedObject> objects;
};

/// The replacements of one function (struct klp_ops), newest first: the first is in force.
struct FuncStack {
  GuestVirtAddr old_func;
  std::vector<GuestVirtAddr> functions;  ///< addresses of their struct klp_func
};

/// The words that tell how a transition goes, and no more: cheap enough for each millisecond.
struct TransitionNow {
  GuestVirtAddr patch;              ///< klp_transition_patch, its struct klp_patch; 0 when none is
  std::int32_t target_state = -1;   ///< klp_target_state: 1 patching, 0 unpatching, -1 none
  GuestVirtAddr mutex_owner;        ///< task_struct that holds klp_mutex; 0 when free
  std::uint32_t signals_count = 0;  ///< klp_signals_cnt; 0 in a kernel without it

  bool busy() const { return mutex_owner != GuestVirtAddr(); }
};

/// All that the kernel's livepatch core knows.
struct LivepatchState : TransitionNow {
  std::vector<LivePatch> patches;
  std::vector<FuncStack> func_stacks;
  std::optional<std::size_t> transition;  ///< index in `patches` of the one in transition
};

/// Where the kernel keeps that; probed once a boot. Members are named for the structures they are
/// in: patch_* for klp_patch, object_* for klp_object, func_* for klp_func, ops_* for klp_ops.
struct LivepatchLayout {
  GuestVirtAddr patches, ops, transition_patch, target_state, mutex;
  std::optional<GuestVirtAddr> signals_count;
  std::uint64_t mutex_owner = 0;
  std::uint64_t patch_mod = 0, patch_list = 0, patch_obj_list = 0, patch_enabled = 0,
                patch_forced = 0, patch_replace = 0, patch_size = 0;
  std::optional<std::uint64_t> patch_states;
  std::uint64_t state_id = 0, state_version = 0, state_size = 0;  ///< where there are states
  std::uint64_t object_name = 0, object_func_list = 0, object_node = 0, object_patched = 0,
                object_size = 0;
  std::uint64_t object_pre_patch = 0, object_post_patch = 0, object_pre_unpatch = 0,
                object_post_unpatch = 0;
  std::uint64_t func_old_name = 0, func_new_func = 0, func_old_sympos = 0, func_old_func = 0,
                func_old_size = 0, func_new_size = 0, func_node = 0, func_stack_node = 0,
                func_patched = 0, func_transition = 0, func_nop = 0, func_size = 0;
  std::uint64_t ops_node = 0, ops_func_stack = 0, ops_size = 0;
  std::uint64_t module_name = 0, module_name_size = 0;

  /// Errc::not_found when the kernel has no livepatch.
  static Result<LivepatchLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// Reads all of it, up to three times when lists change under the reader: Errc::torn when they
/// still do, or make no sense; Errc::corrupt beyond the caps.
Result<LivepatchState> read_livepatch(const VirtualMemory& memory, const LivepatchLayout& layout);

/// Reads these words in one read_many(). They may be of different instants, and the kernel changes
/// them one by one. Errors of the memory.
Result<TransitionNow> read_transition(const VirtualMemory& memory, const LivepatchLayout& layout);

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/livepatch.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/list_walk.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch::introspect {
namespace {

/// KSYM_NAME_LEN is 512 since 6.1; what is longer is cut.
constexpr std::size_t kMaxName = 512;
/// A mutex keeps flags in the low bits of its owner.
constexpr std::uint64_t kOwnerFlags = 7;

/// One reading of everything.
class Reader {
 public:
  Reader(const VirtualMemory& memory, const LivepatchLayout& layout)
      : memory_(&memory), layout_(&layout) {}

  Result<LivepatchState> run() {
    LivepatchState state;
    const auto now = read_transition(*memory_, *layout_);
    if (!now) {
      return std::unexpected(now.error());
    }
    static_cast<TransitionNow&>(state) = *now;
    if (auto done = read_patches(state); !done) {
      return std::unexpected(std::move(done).error());
    }
    if (auto done = read_func_stacks(state); !done) {
      return std::unexpected(std::move(done).error());
    }
    if (auto done = find_transition(state); !done) {
      return std::unexpected(std::move(done).error());
    }
    return state;
  }

 private:
  static Result<void> find_transition(LivepatchState& state) {
    if (state.patch == GuestVirtAddr()) {
      return {};
    }
    const auto found = std::ranges::find(state.patches, state.patch, &LivePatch::address);
    if (found == state.patches.end()) {
      return fail(Errc::torn, fmt::format("the livepatch in transition, at {:#x}, is not listed",
                                          state.patch.value()));
    }
    state.transition = static_cast<std::size_t>(found - state.patches.begin());
    return {};
  }

  Result<void> read_patches(LivepatchState& state) {
    const auto entries = read_list(*memory_, layout_->patches,
                                   {layout_->patch_list, layout_->patch_size, kMaxPatches});
    if (!entries) {
      return std::unexpected(entries.error());
    }
    for (const StructCopy& entry : *entries) {
      auto patch = read_patch(entry);
      if (!patch) {
        return std::unexpected(std::move(patch).error());
      }
      state.patches.push_back(*std::move(patch));
    }
    return {};
  }

  Result<LivePatch> read_patch(const StructCopy& entry) {
    const FieldView fields = entry.fields();
    LivePatch patch;
    patch.address = entry.address();
    patch.module = fields.pointer(layout_->patch_mod);
    patch.enabled = fields.flag(layout_->patch_enabled);
    patch.forced = fields.flag(layout_->patch_forced);
    patch.replace = fields.flag(layout_->patch_replace);
    auto name = read_text(*memory_, member_at(patch.module, layout_->module_name),
                          std::clamp<std::uint64_t>(layout_->module_name_size, 1, kMaxName));
    if (!name) {
      return unreadable("a livepatch's name", name.error());
    }
    patch.name = *std::move(name);
    if (layout_->patch_states) {
      auto states = read_states(fields.pointer(*layout_->patch_states));
      if (!states) {
        return std::unexpected(std::move(states).error());
      }
      patch.states = *std::move(states);
    }
    const auto objects =
        read_list(*memory_, member_at(entry.address(), layout_->patch_obj_list),
                  {layout_->object_node, layout_->object_size, kMaxPatchedObjects});
    if (!objects) {
      return std::unexpected(objects.error());
    }
    for (const StructCopy& one : *objects) {
      auto object = read_object(one);
      if (!object) {
        return std::unexpected(std::move(object).error());
      }
      patch.objects.push_back(*std::move(object));
    }
    return patch;
  }

  /// An array that ends with the id 0.
  Result<std::vector<KlpState>> read_states(GuestVirtAddr array) const {
    std::vector<KlpState> states;
    if (array == GuestVirtAddr()) {
      return states;
    }
    for (;;) {
      const auto entry = StructCopy::read(
          *memory_, member_at(array, states.size() * layout_->state_size), layout_->state_size);
      if (!entry) {
        return unreadable("a livepatch's states", entry.error());
      }
      const KlpState state{.id = entry->fields().get<std::uint64_t>(layout_->state_id),
                           .version = entry->fields().get<std::uint32_t>(layout_->state_version)};
      if (state.id == 0) {
        return states;
      }
      if (states.size() == kMaxKlpStates) {
        return fail(Errc::corrupt,
                    fmt::format("a livepatch would have more than {} states", kMaxKlpStates));
      }
      states.push_back(state);
    }
  }

  Result<PatchedObject> read_object(const StructCopy& entry) {
    const FieldView fields = entry.fields();
    PatchedObject object;
    object.name = "vmlinux";
    object.patched = fields.flag(layout_->object_patched);
    const auto set = [&](std::uint64_t offset) {
      return fields.pointer(offset) != GuestVirtAddr();
    };
    object.callbacks = {.pre_patch = set(layout_->object_pre_patch),
                        .post_patch = set(layout_->object_post_patch),
                        .pre_unpatch = set(layout_->object_pre_unpatch),
                        .post_unpatch = set(layout_->object_post_unpatch)};
    if (const auto address = fields.pointer(layout_->object_name); address != GuestVirtAddr()) {
      auto name = read_text(*memory_, address, kMaxName);
      if (!name) {
        return unreadable("a patched object's name", name.error());
      }
      object.name = *std::move(name);
    }
    const auto functions =
        read_list(*memory_, member_at(entry.address(), layout_->object_func_list),
                  {layout_->func_node, layout_->func_size, kMaxPatchedFunctions});
    if (!functions) {
      return std::unexpected(functions.error());
    }
    functions_ += functions->size();
    if (functions_ > kMaxFuncsInAll) {
      return fail(Errc::corrupt,
                  fmt::format("livepatches would have more than {} functions", kMaxFuncsInAll));
    }
    for (const StructCopy& one : *functions) {
      auto function = read_function(one);
      if (!function) {
        return std::unexpected(std::move(function).error());
      }
      object.functions.push_back(*std::move(function));
    }
    return object;
  }

  Result<PatchedFunction> read_function(const StructCopy& entry) const {
    const FieldView fields = entry.fields();
    PatchedFunction function;
    function.address = entry.address();
    auto name = read_text(*memory_, fields.pointer(layout_->func_old_name), kMaxName);
    if (!name) {
      return unreadable("a patched function's name", name.error());
    }
    function.name = *std::move(name);
    function.sympos = fields.get<std::uint64_t>(layout_->func_old_sympos);
    function.old_func = fields.pointer(layout_->func_old_func);
    function.new_func = fields.pointer(layout_->func_new_func);
    function.old_size = fields.get<std::uint64_t>(layout_->func_old_size);
    function.new_size = fields.get<std::uint64_t>(layout_->func_new_size);
    function.patched = fields.flag(layout_->func_patched);
    function.transition = fields.flag(layout_->func_transition);
    function.nop = fields.flag(layout_->func_nop);
    return function;
  }

  /// Every function on a stack has the same original; it is read from the stack's first.
  Result<void> read_func_stacks(LivepatchState& state) const {
    const auto entries =
        read_list(*memory_, layout_->ops, {layout_->ops_node, layout_->ops_size, kMaxFuncsInAll});
    if (!entries) {
      return std::unexpected(entries.error());
    }
    std::size_t in_all = 0;
    for (const StructCopy& entry : *entries) {
      const auto functions =
          read_list(*memory_, member_at(entry.address(), layout_->ops_func_stack),
                    {layout_->func_stack_node, layout_->func_size, kMaxFuncStack});
      if (!functions) {
        return std::unexpected(functions.error());
      }
      if (functions->empty()) {
        continue;  // it is being set up or taken down
      }
      in_all += functions->size();  // a function is on one stack at most
      if (in_all > kMaxFuncsInAll) {
        return fail(Errc::corrupt,
                    fmt::format("more than {} functions would be patched", kMaxFuncsInAll));
      }
      FuncStack stack;
      stack.old_func = functions->front().fields().pointer(layout_->func_old_func);
      for (const StructCopy& function : *functions) {
        stack.functions.push_back(function.address());
      }
      state.func_stacks.push_back(std::move(stack));
    }
    return {};
  }

  /// What a list named and is gone now was taken away meanwhile.
  static std::unexpected<Error> unreadable(std::string_view what, const Error& why) {
    return fail(Errc::torn, fmt::format("{} cannot be read: {}", what, why.what), why.sys_errno);
  }

  const VirtualMemory* memory_;
  const LivepatchLayout* layout_;
  std::size_t functions_ = 0;  // of all patches read so far
};

void probe_structs(LayoutProbe& probe, LivepatchLayout& layout) {
  layout.patch_mod = probe.offset("klp_patch", "mod");
  layout.patch_list = probe.offset("klp_patch", "list");
  layout.patch_obj_list = probe.offset("klp_patch", "obj_list");
  layout.patch_enabled = probe.offset("klp_patch", "enabled");
  layout.patch_forced = probe.offset("klp_patch", "forced");
  layout.patch_replace = probe.offset("klp_patch", "replace");
  layout.patch_size = probe.size_of("klp_patch");
  layout.patch_states = probe.optional_offset("klp_patch", "states");
  if (layout.patch_states) {
    layout.state_id = probe.offset("klp_state", "id");
    layout.state_version = probe.offset("klp_state", "version");
    layout.state_size = probe.size_of("klp_state");
  }
  layout.object_name = probe.offset("klp_object", "name");
  layout.object_func_list = probe.offset("klp_object", "func_list");
  layout.object_node = probe.offset("klp_object", "node");
  layout.object_patched = probe.offset("klp_object", "patched");
  layout.object_pre_patch = probe.offset("klp_object", "callbacks.pre_patch");
  layout.object_post_patch = probe.offset("klp_object", "callbacks.post_patch");
  layout.object_pre_unpatch = probe.offset("klp_object", "callbacks.pre_unpatch");
  layout.object_post_unpatch = probe.offset("klp_object", "callbacks.post_unpatch");
  layout.object_size = probe.size_of("klp_object");
  layout.func_old_name = probe.offset("klp_func", "old_name");
  layout.func_new_func = probe.offset("klp_func", "new_func");
  layout.func_old_sympos = probe.offset("klp_func", "old_sympos");
  layout.func_old_func = probe.offset("klp_func", "old_func");
  layout.func_old_size = probe.offset("klp_func", "old_size");
  layout.func_new_size = probe.offset("klp_func", "new_size");
  layout.func_node = probe.offset("klp_func", "node");
  layout.func_stack_node = probe.offset("klp_func", "stack_node");
  layout.func_patched = probe.offset("klp_func", "patched");
  layout.func_transition = probe.offset("klp_func", "transition");
  layout.func_nop = probe.offset("klp_func", "nop");
  layout.func_size = probe.size_of("klp_func");
  layout.ops_node = probe.offset("klp_ops", "node");
  layout.ops_func_stack = probe.offset("klp_ops", "func_stack");
  layout.ops_size = probe.size_of("klp_ops");
}

}  // namespace

Result<LivepatchLayout> LivepatchLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  LivepatchLayout layout;
  layout.patches = probe.symbol("klp_patches");
  layout.ops = probe.symbol("klp_ops");
  layout.transition_patch = probe.symbol("klp_transition_patch");
  layout.target_state = probe.symbol("klp_target_state");
  layout.mutex = probe.symbol("klp_mutex");
  layout.signals_count = probe.optional_symbol("klp_signals_cnt");
  layout.mutex_owner = probe.offset("mutex", "owner");
  probe_structs(probe, layout);
  const Member name = probe.member("module", "name");
  layout.module_name = name.offset();
  layout.module_name_size = name.size();
  return std::move(probe).finish(layout);
}

Result<LivepatchState> read_livepatch(const VirtualMemory& memory, const LivepatchLayout& layout) {
  auto state = retry_torn([&] { return Reader(memory, layout).run(); });
  if (!state) {
    return std::unexpected(std::move(state.error()).in_context("read the guest's livepatches"));
  }
  return state;
}

Result<TransitionNow> read_transition(const VirtualMemory& memory, const LivepatchLayout& layout) {
  TransitionNow now;
  std::uint64_t patch = 0;
  std::uint64_t owner = 0;
  const auto into = [](auto& value) { return std::as_writable_bytes(std::span(&value, 1)); };
  std::array<VirtRead, 4> reads{
      VirtRead{layout.transition_patch, into(patch)},
      VirtRead{layout.target_state, into(now.target_state)},
      VirtRead{member_at(layout.mutex, layout.mutex_owner), into(owner)},
      VirtRead{layout.signals_count.value_or(GuestVirtAddr()), into(now.signals_count)}};
  const auto wanted = std::span(reads).first(layout.signals_count ? 4 : 3);
  memory.read_many(wanted);
  for (const VirtRead& one : wanted) {
    // Once more where it failed, for the error; it may also have come back.
    if (auto done = one.done ? Result<void>{} : memory.read(one.address, one.into); !done) {
      return std::unexpected(std::move(done).error());
    }
  }
  now.patch = GuestVirtAddr(patch);
  now.mutex_owner = GuestVirtAddr(owner & ~kOwnerFlags);
  return now;
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/blockers.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

/// A klp_func and the object it belongs to.
struct Entry {
  const PatchedObject* object = nullptr;
  const PatchedFunction* function = nullptr;
};
using Entries = std::unordered_map<std::uint64_t, Entry>;  // by address of the klp_func

Entries entries_of(const LivepatchState& state) {
  Entries entries;
  for (const LivePatch& patch : state.patches) {
    for (const PatchedObject& object : patch.objects) {
      for (const PatchedFunction& function : object.functions) {
        entries.emplace(function.address.value(), Entry{&object, &function});
      }
    }
  }
  return entries;
}

/// All of the kernel's addresses: what stands for code of which it is not known where it lies.
constexpr VirtRange kAnywhere =
    VirtRange::between(GuestVirtAddr(0xffff'8000'0000'0000), GuestVirtAddr(~0ULL));

std::optional<VirtRange> new_code(const PatchedFunction& function) {
  return VirtRange::make(function.new_func, function.new_size);
}

std::optional<VirtRange> old_code(const PatchedFunction& function) {
  return VirtRange::make(function.old_func, function.old_size);
}

/// For each klp_func on a stack the next older one, 0 for the oldest.
using Older = std::unordered_map<std::uint64_t, std::uint64_t>;

Older older_of(const LivepatchState& state) {
  Older older;
  for (const FuncStack& stack : state.func_stacks) {
    for (std::size_t at = 0; at < stack.functions.size(); ++at) {
      const bool oldest = at + 1 == stack.functions.size();
      older.emplace(stack.functions[at].value(), oldest ? 0 : stack.functions[at + 1].value());
    }
  }
  return older;
}

/// What ran before `function` joined its stack: the next older replacement, or the original.
std::optional<VirtRange> code_below(const Entries& entries, const Older& older,
                                    const PatchedFunction& function) {
  const auto next = older.find(function.address.value());
  if (next == older.end() || next->second == 0) {
    return old_code(function);
  }
  const auto below = entries.find(next->second);
  return below == entries.end() ? std::nullopt : new_code(*below->second.function);
}

/// What is in force now of the function that starts at `original`.
std::optional<VirtRange> code_in_force(const LivepatchState& state, const Entries& entries,
                                       GuestVirtAddr original, std::uint64_t size) {
  const auto stack = std::ranges::find(state.func_stacks, original, &FuncStack::old_func);
  if (stack == state.func_stacks.end() || stack->functions.empty()) {
    return VirtRange::make(original, size);
  }
  const auto top = entries.find(stack->functions.front().value());
  return top == entries.end() ? std::nullopt : new_code(*top->second.function);
}

std::string label(const FunctionToChange& function, std::string_view why) {
  return fmt::format("{}:{}: {}", function.object, function.name, why);
}

/// The symbol that the kernel would take for `function`, by klp_find_object_symbol().
std::expected<Symbol, std::string> resolve(const Result<std::vector<Symbol>>& named,
                                           const FunctionToChange& function) {
  if (!named) {
    return std::unexpected(label(function, named.error().what));
  }
  if (named->empty()) {
    return std::unexpected(label(function, "no such symbol"));
  }
  if (function.sympos == 0 && named->size() > 1) {
    return std::unexpected(
        label(function, fmt::format("{} symbols have this name", named->size())));
  }
  const std::uint64_t index = function.sympos == 0 ? 0 : function.sympos - 1;
  if (index >= named->size()) {
    return std::unexpected(
        label(function, fmt::format("position {} of {} symbols", function.sympos, named->size())));
  }
  return named->at(static_cast<std::size_t>(index));
}

void add_replaced(const LivepatchState& state, const Entries& entries,
                  std::vector<ForbiddenFunction>& forbidden) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> known;  // start, size
  for (const ForbiddenFunction& function : forbidden) {
    known.emplace(function.code.start().value(), function.code.size());
  }
  for (const FuncStack& stack : state.func_stacks) {
    const auto top =
        stack.functions.empty() ? entries.end() : entries.find(stack.functions.front().value());
    if (top == entries.end()) {
      continue;
    }
    const auto code = new_code(*top->second.function);
    if (code && known.emplace(code->start().value(), code->size()).second) {
      forbidden.push_back({top->second.object->name, top->second.function->name, *code});
    }
  }
}

/// Finds the forbidden function that holds an address.
class ForbiddenCode {
 public:
  explicit ForbiddenCode(std::span<const ForbiddenFunction> functions) : functions_(functions) {
    order_.resize(functions.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::sort(order_, {}, [&](std::size_t index) { return start(index); });
    GuestVirtAddr reach;
    for (const std::size_t index : order_) {
      reach = std::max(reach, functions_[index].code.end());
      reach_.push_back(reach);
    }
  }

  /// Its index; nothing when the address is in none.
  std::optional<std::size_t> find(GuestVirtAddr address) const {
    const auto after = std::ranges::upper_bound(order_, address, {},
                                                [&](std::size_t index) { return start(index); });
    for (auto at = static_cast<std::size_t>(after - order_.begin());
         at > 0 && reach_[at - 1] > address; --at) {
      if (functions_[order_[at - 1]].code.holds(address, 1)) {
        return order_[at - 1];
      }
    }
    return std::nullopt;
  }

 private:
  GuestVirtAddr start(std::size_t index) const { return functions_[index].code.start(); }

  std::span<const ForbiddenFunction> functions_;
  std::vector<std::size_t> order_;    // by where they start
  std::vector<GuestVirtAddr> reach_;  // how far any up to this one of order_ goes
};

std::optional<BlockReason> reason_without_stack(const TaskStack& stack) {
  switch (stack.activity) {
    case Activity::asleep:
      return stack.trace.reliable() ? std::nullopt : std::optional(BlockReason::unreliable);
    case Activity::in_kernel:
      return BlockReason::in_kernel;
    case Activity::in_user:
      return BlockReason::in_user;
    case Activity::running:
      break;
  }
  return BlockReason::running;
}

}  // namespace

std::string_view to_string(BlockReason reason) {
  switch (reason) {
    case BlockReason::on_stack:
      return "on-stack";
    case BlockReason::unreliable:
      return "unreliable";
    case BlockReason::in_kernel:
      return "in-kernel";
    case BlockReason::in_user:
      return "in-user";
    case BlockReason::running:
      break;
  }
  return "running";
}

std::vector<ForbiddenFunction> forbidden_now(const LivepatchState& state) {
  std::vector<ForbiddenFunction> forbidden;
  if (!state.transition || *state.transition >= state.patches.size()) {
    return forbidden;
  }
  const Entries entries = entries_of(state);
  const Older older = older_of(state);
  const bool unpatching = state.target_state == 0;
  for (const PatchedObject& object : state.patches[*state.transition].objects) {
    if (!object.patched) {
      continue;
    }
    for (const PatchedFunction& function : object.functions) {
      const auto code = unpatching ? new_code(function) : code_below(entries, older, function);
      forbidden.push_back({object.name, function.name, code && !code->empty() ? *code : kAnywhere});
    }
  }
  return forbidden;
}

Prediction predict_forbidden(const SymbolsNamed& symbols, const LivepatchState& state,
                             std::span<const FunctionToChange> functions, bool replace) {
  Prediction prediction;
  const Entries entries = entries_of(state);
  for (const FunctionToChange& function : functions) {
    const auto named = symbols(function.object, function.name);
    if (function.object != "vmlinux" && !named && named.error().code == Errc::not_found) {
      continue;  // its module is not loaded: the kernel patches it when it comes
    }
    const auto symbol = resolve(named, function);
    if (!symbol) {
      prediction.unknown.push_back(symbol.error());
      continue;
    }
    const auto code = code_in_force(state, entries, symbol->address, symbol->size);
    if (code) {
      prediction.forbidden.push_back({function.object, function.name, *code});
    } else {
      prediction.unknown.push_back(label(function, "what is in force of it cannot be told"));
    }
  }
  if (replace) {
    add_replaced(state, entries, prediction.forbidden);
  }
  return prediction;
}

std::vector<Blocker> find_blockers(std::span<const TaskStack> tasks,
                                   std::span<const ForbiddenFunction> forbidden) {
  const ForbiddenCode code(forbidden);
  const auto on_stack = [&](const TaskStack& stack) -> std::optional<Blocker> {
    for (std::size_t frame = 0; frame < stack.trace.frames.size(); ++frame) {
      if (const auto function = code.find(stack.trace.frames[frame].address)) {
        return Blocker{0, BlockReason::on_stack, frame, *function};
      }
    }
    return std::nullopt;
  };

  std::vector<Blocker> blockers;
  for (std::size_t task = 0; task < tasks.size(); ++task) {
    auto blocker = on_stack(tasks[task]);
    if (!blocker) {
      if (const auto reason = reason_without_stack(tasks[task])) {
        blocker = Blocker{0, *reason, 0, 0};
      }
    }
    if (blocker) {
      blocker->task = task;
      blockers.push_back(*blocker);
    }
  }
  return blockers;
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/guest/stack_walk.h"
#include "introspect/kernel/livepatch.h"
#include "introspect/symbols/symbol.h"

namespace vpatch::introspect {

/// A function that no stack may hold while its task moves, and the code that counts as it.
struct ForbiddenFunction {
  std::string object;  ///< "vmlinux" or a module
  std::string name;
  VirtRange code;  ///< of the version that a task not yet moved may run

  friend bool operator==(const ForbiddenFunction&, const ForbiddenFunction&) = default;
};

/// A function that a livepatch changes, as its file names it.
struct FunctionToChange {
  std::string object;
  std::string name;
  std::uint64_t sympos = 0;  ///< 0: the name must be unique
};

/// What the running transition forbids, by the kernel's rule (klp_check_stack_func() in
/// kernel/livepatch/transition.c): while patching, the function that was in force before; while
/// unpatching, the new one. Where that code cannot be told, all of the kernel's addresses count as
/// it. Empty without a transition.
std::vector<ForbiddenFunction> forbidden_now(const LivepatchState& state);

/// All symbols of a name in an object, as Symbolizer::named() gives them.
using SymbolsNamed =
    std::function<Result<std::vector<Symbol>>(std::string_view object, std::string_view name)>;

/// What loading a livepatch would forbid: for each function, what is in force of it now. A replace
/// patch also takes back all that is patched now. Functions that cannot be found, or are ambiguous,
/// are named in `unknown`.
struct Prediction {
  std::vector<ForbiddenFunction> forbidden;
  std::vector<std::string> unknown;  ///< "object:function: why"
};
Prediction predict_forbidden(const SymbolsNamed& symbols, const LivepatchState& state,
                             std::span<const FunctionToChange> functions, bool replace);

/// Why a task cannot be moved now.
enum class BlockReason : std::uint8_t {
  on_stack,    ///< a forbidden function is on its stack
  unreliable,  ///< its stack proves nothing; see Trace::unreliable
  in_kernel,   ///< it runs in the kernel: it moves itself when it leaves
  in_user,     ///< it runs in user mode: it moves itself at its next entry into the kernel
  running,     ///< it runs, where is not known
};

/// A stable word for each, such as "on-stack".
std::string_view to_string(BlockReason reason);

/// One task that cannot be moved now.
struct Blocker {
  std::size_t task = 0;  ///< index of the TaskStack
  BlockReason reason{};
  std::size_t frame = 0;     ///< for on_stack: index in its trace
  std::size_t function = 0;  ///< for on_stack: index of the ForbiddenFunction

  /// Whether only something outside of the scheduler's hands ends it: tasks that merely run pass
  /// by themselves in a moment.
  bool holds() const {
    return reason == BlockReason::on_stack || reason == BlockReason::unreliable;
  }
};

/// Those of `tasks` that could not be moved at this look.
std::vector<Blocker> find_blockers(std::span<const TaskStack> tasks,
                                   std::span<const ForbiddenFunction> forbidden);

}  // namespace vpatch::introspect

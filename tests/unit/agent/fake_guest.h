// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/agent/fake_clock.h"
#include "tests/unit/agent/fake_kernel.h"
#include "vmm-agent/guest/guest.h"

namespace vpatch {

enum class Op : std::uint8_t {
  observe,
  pending_tasks,
  module_build_id,
  deliver,
  remove_delivered,
  load,
  unload,
  set_enabled,
  force,
  installed_module,
  log_mark,
  log_since
};

/// Which calls: the `first`-th and those after it, `count` in all, of one operation or of all
/// (counted from 1).
struct When {
  static constexpr std::size_t kForEver = std::numeric_limits<std::size_t>::max();

  std::optional<Op> op = std::nullopt;
  std::size_t first = 1;
  std::size_t count = 1;
};

/// A call that fails with an agent error: what it did to the guest nevertheless, and how long the
/// caller waited.
struct Fault {
  enum class Effect : std::uint8_t {
    none,   ///< the request was lost
    whole,  ///< the reply was lost
    late,   ///< the guest does it a while after the caller has given up
  };
  Effect effect = Effect::none;
  std::chrono::milliseconds cost{20'000};
};

/// The agent in front of a FakeKernel: records every call in order, and fails or acts when told to.
class FakeGuest final : public Guest {
 public:
  using Action = std::function<void()>;
  static constexpr std::chrono::milliseconds kCallTime{10};
  static constexpr std::chrono::milliseconds kLate{5'000};

  FakeGuest(FakeClock& clock, FakeKernel& kernel) : clock_(clock), kernel_(kernel) {}

  std::vector<std::string> calls;                ///< "observe", "load p1", ...
  std::map<std::string, ModuleImage> images;     ///< what the delivered file of that name is
  std::set<std::string> files;                   ///< delivered and not removed
  std::map<std::string, std::string> installed;  ///< files of modules of its kernel

  void fail(When when, Fault fault = {}) { faults_.emplace_back(when, fault); }
  /// The guest itself says no: a ToolResult that is not ok. For load, unload, set_enabled and
  /// force.
  void refuse(When when, std::string message) { refusals_.emplace_back(when, std::move(message)); }
  /// Acts just before the call, between its effect and its reply, or just after its reply.
  void before(When when, Action action) { before_.emplace_back(when, std::move(action)); }
  void during(When when, Action action) { during_.emplace_back(when, std::move(action)); }
  void after(When when, Action action) { after_.emplace_back(when, std::move(action)); }

  Result<GuestState> observe(const qmp::CallOptions& options) override;
  Result<PendingTasks> pending_tasks(bool patched, const qmp::CallOptions& options) override;
  Result<std::string> module_build_id(const std::string& module,
                                      const qmp::CallOptions& options) override;
  Result<void> deliver(const std::string& module, std::span<const std::byte> bytes,
                       const std::string& sha256, const qmp::TransferProgress& progress,
                       const qmp::CallOptions& options) override;
  Result<void> remove_delivered(const qmp::CallOptions& options) override;
  Result<ToolResult> load(const std::string& module, const qmp::CallOptions& options) override;
  Result<ToolResult> unload(const std::string& module, const qmp::CallOptions& options) override;
  Result<ToolResult> set_enabled(const std::string& patch, bool enabled,
                                 const qmp::CallOptions& options) override;
  Result<ToolResult> force(const std::string& patch, const qmp::CallOptions& options) override;
  Result<std::string> installed_module(const std::string& module,
                                       const qmp::CallOptions& options) override;
  Result<std::string> log_mark(const qmp::CallOptions& options) override;
  Result<std::vector<std::string>> log_since(const std::string& mark,
                                             const qmp::CallOptions& options) override;

 private:
  template <class T>
  using Rules = std::vector<std::pair<When, T>>;

  template <class Work>
  auto call(Op op, std::string text, const qmp::CallOptions& options, const Work& work)
      -> decltype(work());
  bool matches(const When& when, Op op) const;
  template <class T>
  const T* find(const Rules<T>& rules, Op op) const;
  void act(const Rules<Action>& rules, Op op) const;

  FakeClock& clock_;
  FakeKernel& kernel_;
  std::map<Op, std::size_t> count_;
  Rules<Fault> faults_;
  Rules<std::string> refusals_;
  Rules<Action> before_;
  Rules<Action> during_;
  Rules<Action> after_;
};

}  // namespace vpatch

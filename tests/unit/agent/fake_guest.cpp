// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/fake_guest.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::size_t kMostCalls = 20'000;

}  // namespace

bool FakeGuest::matches(const When& when, Op op) const {
  if (when.op && *when.op != op) {
    return false;
  }
  const std::size_t number = when.op ? count_.at(op) : calls.size();
  return number >= when.first && number - when.first < when.count;
}

template <class T>
const T* FakeGuest::find(const Rules<T>& rules, Op op) const {
  const auto rule =
      std::ranges::find_if(rules, [&](const auto& one) { return matches(one.first, op); });
  return rule == rules.end() ? nullptr : &rule->second;
}

void FakeGuest::act(const Rules<Action>& rules, Op op) const {
  for (const auto& [when, action] : rules) {
    if (matches(when, op)) {
      action();
    }
  }
}

template <class Work>
auto FakeGuest::call(Op op, std::string text, const qmp::CallOptions& options, const Work& work)
    -> decltype(work()) {
  calls.push_back(std::move(text));
  if (calls.size() > kMostCalls) {
    throw std::runtime_error("the operation calls for ever");
  }
  ++count_[op];
  clock_.advance(kCallTime);
  act(before_, op);
  if (options.stop.stop_requested()) {
    return vpatch::fail(Outcome::refused, "interrupted");  // as AgentGuest: nothing was sent
  }
  if (const Fault* fault = find(faults_, op); fault != nullptr) {
    if (fault->effect == Fault::Effect::whole) {
      static_cast<void>(work());
    } else if (fault->effect == Fault::Effect::late) {
      clock_.schedule(fault->cost + kLate, [work] { static_cast<void>(work()); });
    }
    clock_.advance(fault->cost);
    act(after_, op);
    return vpatch::fail(Outcome::unreachable, "the guest agent does not answer", "Look at it.");
  }
  auto result = work();
  act(during_, op);
  if (options.stop.stop_requested()) {
    return vpatch::fail(Outcome::refused, "interrupted");  // the request was sent all the same
  }
  act(after_, op);
  return result;
}

Result<GuestState> FakeGuest::observe(const qmp::CallOptions& options) {
  return call(Op::observe, "observe", options,
              [this]() -> Result<GuestState> { return kernel_.state(); });
}

Result<PendingTasks> FakeGuest::pending_tasks(bool, const qmp::CallOptions& options) {
  return call(Op::pending_tasks, "pending_tasks", options,
              [this]() -> Result<PendingTasks> { return kernel_.pending; });
}

Result<std::string> FakeGuest::module_build_id(const std::string& module,
                                               const qmp::CallOptions& options) {
  return call(Op::module_build_id, "module_build_id " + module, options,
              [this, module]() -> Result<std::string> {
                const auto found = kernel_.modules.find(module);
                return found == kernel_.modules.end() ? std::string() : found->second.build_id;
              });
}

Result<void> FakeGuest::deliver(const std::string& module, std::span<const std::byte> bytes,
                                const std::string&, const qmp::TransferProgress& progress,
                                const qmp::CallOptions& options) {
  if (progress) {
    progress(bytes.size(), bytes.size());
  }
  return call(Op::deliver, "deliver " + module, options, [this, module]() -> Result<void> {
    files.insert(module);
    return {};
  });
}

Result<void> FakeGuest::remove_delivered(const qmp::CallOptions& options) {
  return call(Op::remove_delivered, "remove_delivered", options, [this]() -> Result<void> {
    files.clear();
    return {};
  });
}

Result<ToolResult> FakeGuest::load(const std::string& module, const qmp::CallOptions& options) {
  const bool delivered =
      files.contains(module);  // a late insmod has its file open since it started
  return call(Op::load, "load " + module, options,
              [this, module, delivered]() -> Result<ToolResult> {
                files.erase(module);
                if (const std::string* refusal = find(refusals_, Op::load); refusal != nullptr) {
                  return ToolResult{false, *refusal};
                }
                if (!delivered) {
                  return ToolResult{
                      false, "insmod: ERROR: could not load module: No such file or directory"};
                }
                return kernel_.insmod(images.at(module));
              });
}

Result<ToolResult> FakeGuest::unload(const std::string& module, const qmp::CallOptions& options) {
  return call(Op::unload, "unload " + module, options, [this, module]() -> Result<ToolResult> {
    const std::string* refusal = find(refusals_, Op::unload);
    return refusal != nullptr ? ToolResult{false, *refusal} : kernel_.rmmod(module);
  });
}

Result<ToolResult> FakeGuest::set_enabled(const std::string& patch, bool enabled,
                                          const qmp::CallOptions& options) {
  return call(Op::set_enabled, fmt::format("set_enabled {} {}", patch, enabled ? 1 : 0), options,
              [this, patch, enabled]() -> Result<ToolResult> {
                const std::string* refusal = find(refusals_, Op::set_enabled);
                return refusal != nullptr ? ToolResult{false, *refusal}
                                          : kernel_.write_enabled(patch, enabled);
              });
}

Result<ToolResult> FakeGuest::force(const std::string& patch, const qmp::CallOptions& options) {
  return call(Op::force, "force " + patch, options, [this, patch]() -> Result<ToolResult> {
    const std::string* refusal = find(refusals_, Op::force);
    return refusal != nullptr ? ToolResult{false, *refusal} : kernel_.write_force(patch);
  });
}

Result<std::string> FakeGuest::installed_module(const std::string& module,
                                                const qmp::CallOptions& options) {
  return call(Op::installed_module, "installed_module " + module, options,
              [this, module]() -> Result<std::string> {
                const auto found = installed.find(module);
                return found == installed.end() ? "" : found->second;
              });
}

Result<std::string> FakeGuest::log_mark(const qmp::CallOptions& options) {
  return call(Op::log_mark, "log_mark", options,
              [this]() -> Result<std::string> { return kernel_.log.back(); });
}

Result<std::vector<std::string>> FakeGuest::log_since(const std::string& mark,
                                                      const qmp::CallOptions& options) {
  return call(Op::log_since, "log_since", options,
              [this, mark]() -> Result<std::vector<std::string>> {
                const auto last = std::ranges::find(kernel_.log.rbegin(), kernel_.log.rend(), mark);
                return std::vector<std::string>(last.base(), kernel_.log.end());
              });
}

}  // namespace vpatch

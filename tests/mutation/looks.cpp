// SPDX-License-Identifier: Apache-2.0
#include "tests/mutation/looks.h"

#include "introspect/guest/blockers.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"
#include "introspect/symbols/module_btf.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/memory_introspection.h"
#include "vmm-agent/operation/status.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch::mutation {
namespace {

/// Lets a view own what somebody else keeps.
class Borrowed final : public introspect::GuestMemory {
 public:
  /// Without `searchable`, no page holds data as far as a scan can see.
  Borrowed(OverlayMemory& memory, bool searchable) : memory_(&memory), searchable_(searchable) {}
  introspect::Result<void> read(introspect::GuestPhysAddr address,
                                std::span<std::byte> into) const override {
    return memory_->read(address, into);
  }
  std::span<const introspect::PhysRange> regions() const override { return memory_->regions(); }
  introspect::Result<std::optional<introspect::PhysRange>> next_populated(
      introspect::GuestPhysAddr from) const override {
    return searchable_ ? memory_->next_populated(from) : std::nullopt;
  }

 private:
  OverlayMemory* memory_;
  bool searchable_;
};

/// The stacks of a guest that runs, which are checked twice.
bool live_stacks(GuestView& view) {
  const auto registers = view.registers({});
  auto look = introspect::look_at_stacks(view.kernel(),
                                         {.vcpus = *registers, .paused = false, .wanted = {}});
  if (!look) {
    return false;
  }
  const introspect::Symbolizer symbols(view.kernel(), std::move(look->modules));
  for (const introspect::TaskStack& stack : look->tasks) {
    name_frames(stack, symbols, true);
  }
  return true;
}

bool module_types(GuestView& view) {
  const introspect::GuestKernel& kernel = view.kernel();
  const auto btf = kernel.names().btf();
  const auto modules = introspect::read_modules(kernel.memory(), kernel.layouts().modules);
  if (!btf || !modules) {
    return false;
  }
  bool found = false;
  for (const introspect::Module& module : *modules) {
    const auto types = introspect::module_btf(kernel.memory(), kernel.names(), kernel.names(),
                                              btf->get(), module.address);
    found |= types && types->size_of("module").has_value();
  }
  return found;
}

bool log_text(GuestView& view) {
  SteadyClock clock;
  std::size_t length = 0;
  return read_log(view, {}, clock, {},
                  [&length](const introspect::KernelLog& log) {
                    for (const introspect::LogRecord& record : log.records) {
                      length += log_lines(record).size();
                    }
                    return true;
                  })
             .has_value() &&
         length > 0;
}

template <bool kernel_functions>
bool blocking(GuestView& view) {
  const LivepatchFile patch = sample_patch(kernel_functions);
  return MemoryIntrospection(view).forecast(patch, {}).has_value();
}

bool facts(GuestView& view) {
  const LivepatchFile patch = sample_patch(true);
  const GuestFacts facts = MemoryIntrospection(view).facts(patch, {});
  return facts.patches && facts.symbols && facts.probes && facts.ftrace;
}

bool problems(GuestView& view) {
  MemoryIntrospection introspection(view);
  const auto mark = introspection.mark({});
  return mark && introspection.problems("vpatch_demo_v1", *mark, {});
}

bool all_stacks(GuestView& view) {
  return read_stacks(view, nullptr, {}, {}, {}).has_value();
}

bool status(GuestView& view) {
  return read_status(view, true, {}).has_value();
}

}  // namespace

std::vector<Look> all_looks() {
  return {{"status", status},
          {"stacks", all_stacks},
          {"live stacks", live_stacks},
          {"blockers", blocking<false>},
          {"more blockers", blocking<true>, true},
          {"facts", facts, true},
          {"problems", problems},
          {"log", log_text},
          {"module types", module_types}};
}

LivepatchFile sample_patch(bool kernel_functions) {
  LivepatchFile file;
  file.name = "vpatch_demo_v1";
  file.contents = PatchContents{.replace = true,
                                .objects = {{.name = "vpatch_target",
                                             .functions = {{"vpatch_target_show", 0, "a"}},
                                             .callbacks = {}}},
                                .states = {}};
  if (kernel_functions) {
    file.contents->objects.push_back({.name = "vmlinux",
                                      .functions = {{"cmdline_proc_show", 0, "b"},
                                                    {"do_epoll_wait", 1, "c"},
                                                    {"no_such_function", 0, "d"}},
                                      .callbacks = {}});
  }
  return file;
}

Result<GuestView> view_of(OverlayMemory& memory,
                          const std::vector<introspect::VcpuRegisters>& registers,
                          std::optional<introspect::BootFacts> known, bool known_only) {
  return GuestView::open_memory(std::make_unique<Borrowed>(memory, !known_only), registers, "guest",
                                std::move(known));
}

}  // namespace vpatch::mutation

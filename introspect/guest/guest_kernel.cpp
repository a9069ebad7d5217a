// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/guest_kernel.h"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "introspect/boot/vmcoreinfo.h"

namespace vpatch::introspect {
namespace {

/// What takes the place of a return address while a function is traced.
constexpr std::array<std::string_view, 4> kTrampolines = {
    "arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline",
    "return_to_handler"};
/// A replaced return address is that of the trampoline's first instruction.
constexpr std::uint64_t kTrampolineSize = 1;

/// The kernel's own page tables; both are names of the same.
Result<GuestPhysAddr> page_table_root(const VmcoreinfoText& text) {
  for (const std::string_view name : {"init_top_pgt", "swapper_pg_dir"}) {
    if (const auto table = text.symbol(name)) {
      if (const auto place = text.kernel_phys(*table)) {
        return *place;
      }
    }
  }
  return fail(Errc::corrupt, "VMCOREINFO does not say where the kernel's page tables are");
}

Result<UnwindLayout> probe_unwind(const KernelNames& names) {
  auto layout = UnwindLayout::probe(names);
  if (!layout) {
    return layout;
  }
  for (const std::string_view name : kTrampolines) {
    if (const auto address = names.address_of(name)) {
      if (const auto range = VirtRange::make(*address, kTrampolineSize)) {
        layout->trampolines.push_back(*range);
      }
    }
  }
  for (const std::string_view name : {"ret_from_fork", "ret_from_fork_asm"}) {
    if (const auto address = names.address_of(name)) {
      layout->fork_entry = *address;  // the second, from 6.6 on, is the one that tasks start at
    }
  }
  return layout;
}

}  // namespace

GuestKernel::GuestKernel(const GuestMemory& memory, std::unique_ptr<BootFacts> facts,
                         AddressSpace space)
    : guest_(&memory), facts_(std::move(facts)), space_(std::move(space)) {
  names_ = std::make_unique<KernelNames>(space_, *facts_);
}

Result<std::unique_ptr<GuestKernel>> GuestKernel::build(const GuestMemory& memory,
                                                        BootFacts facts) {
  if (facts.text.sme_mask.value_or(0) != 0) {
    return fail(Errc::permission,
                "the guest encrypts its memory (AMD SME/SEV): it cannot be read from the host");
  }
  const auto root = page_table_root(facts.text);
  if (!root) {
    return std::unexpected(root.error());
  }
  const Paging paging =
      facts.text.five_levels.value_or(0) != 0 ? Paging::five_level : Paging::four_level;
  std::unique_ptr<GuestKernel> kernel(new GuestKernel(
      memory, std::make_unique<BootFacts>(std::move(facts)), AddressSpace(memory, *root, paging)));
  if (auto done = kernel->probe(); !done) {
    return std::unexpected(std::move(done).error());
  }
  return kernel;
}

Result<void> GuestKernel::probe() {
  auto cpus = CpuLayout::probe(*names_, *names_);
  auto tasks = TaskLayout::probe(*names_, *names_);
  auto modules = ModuleLayout::probe(*names_, *names_);
  for (const Error* error : {cpus ? nullptr : &cpus.error(), tasks ? nullptr : &tasks.error(),
                             modules ? nullptr : &modules.error()}) {
    if (error != nullptr) {
      return std::unexpected(Error(*error).in_context("learn the kernel's layout"));
    }
  }
  layouts_ = std::make_unique<const KernelLayouts>(KernelLayouts{
      *std::move(cpus), *std::move(tasks), *std::move(modules),
      HealthLayout::probe(*names_, *names_), LivepatchLayout::probe(*names_, *names_),
      LogLayout::probe(*names_, *names_), OrcFormat::probe(*names_), probe_unwind(*names_),
      KprobeLayout::probe(*names_, *names_), FtraceLayout::probe(*names_, *names_)});
  return {};
}

Result<std::unique_ptr<GuestKernel>> GuestKernel::attach(const GuestMemory& memory,
                                                         std::optional<BootFacts> known) {
  if (known) {
    const std::uint64_t stamp = known->boot_stamp;
    const auto info = read_vmcoreinfo_at(memory, known->note);
    if (info && info->evidence >= known->evidence && info->text == known->text) {
      auto kernel = build(memory, *std::move(known));
      const auto now = kernel ? (*kernel)->read_boot_stamp() : std::unexpected(kernel.error());
      if (now && *now == stamp) {
        (*kernel)->from_cache_ = true;
        return kernel;
      }
    }
  }
  auto found = find_vmcoreinfo(memory);
  if (!found) {
    return std::unexpected(std::move(found).error());
  }
  BootFacts facts;
  facts.note = found->note;
  facts.evidence = found->evidence;
  facts.text = std::move(found->text);
  auto kernel = build(memory, std::move(facts));
  if (kernel) {
    const auto stamp = (*kernel)->read_boot_stamp();
    if (!stamp) {
      return std::unexpected(Error(stamp.error()).in_context("find the guest's first process"));
    }
    (*kernel)->facts_->boot_stamp = *stamp;
  }
  return kernel;
}

Result<std::uint64_t> GuestKernel::read_boot_stamp() const {
  const TaskLayout& layout = layouts_->tasks;
  const auto at = [](GuestVirtAddr base, std::uint64_t offset) {
    return GuestVirtAddr(base.value() + offset);
  };
  // init_task is the list's head; process 1 is the first one ever put behind it, and never ends.
  const auto node = read_pointer(space_, at(layout.init_task, layout.tasks));
  if (!node) {
    return std::unexpected(node.error());
  }
  const GuestVirtAddr task(node->value() - layout.tasks);
  const auto pid = read_value<std::uint32_t>(space_, at(task, layout.pid));
  const auto start = read_value<std::uint64_t>(space_, at(task, layout.start_time));
  if (!pid || !start) {
    return std::unexpected(pid ? start.error() : pid.error());
  }
  if (*pid != 1) {
    return fail(Errc::torn, fmt::format("the first process has number {}, not 1", *pid));
  }
  return *start;
}

Result<void> GuestKernel::still_running() const {
  const auto info = read_vmcoreinfo_at(*guest_, facts_->note);
  const auto stamp = read_boot_stamp();
  // A reboot leaves the old kernel's memory behind, in good order; only the evidence is gone.
  if (!info || info->evidence < facts_->evidence || info->text != facts_->text || !stamp ||
      *stamp != facts_->boot_stamp) {
    return fail(Errc::torn, "the guest has rebooted, or its kernel is gone");
  }
  return {};
}

std::vector<OrcTableLocation> GuestKernel::core_orc() const {
  const auto ips = names_->address_of("__start_orc_unwind_ip");
  const auto ips_end = names_->address_of("__stop_orc_unwind_ip");
  const auto entries = names_->address_of("__start_orc_unwind");
  std::vector<OrcTableLocation> locations;
  if (!ips || !ips_end || !entries) {
    return locations;
  }
  const std::uint64_t count = ips_end->offset_from(*ips).value_or(0) / sizeof(std::int32_t);
  if (count == 0 || count > kMaxOrcEntries) {
    return locations;
  }
  // One table for both; the idle task of the first CPU still has a frame in the code of the boot.
  for (const auto& [first, last] : {std::pair("_stext", "_etext"), {"_sinittext", "_einittext"}}) {
    const auto start = names_->address_of(first);
    const auto end = names_->address_of(last);
    if (start && end) {
      locations.push_back(
          {VirtRange::between(*start, *end), *ips, *entries, static_cast<std::uint32_t>(count)});
    }
  }
  return locations;
}

const OrcTables* GuestKernel::orc_tables(std::span<const Module> modules) const {
  if (!layouts_->orc || !layouts_->unwind) {
    return nullptr;
  }
  std::vector<OrcTableLocation> wanted = core_orc();
  if (wanted.empty()) {
    return nullptr;
  }
  std::vector<std::string> builds;
  for (const Module& module : modules) {
    if (module.orc) {
      wanted.push_back(*module.orc);
      builds.push_back(module.build_id);  // another build may be loaded at the same place
    }
  }
  if (!orc_ || wanted != orc_locations_ || builds != orc_builds_) {
    orc_builds_ = std::move(builds);
    orc_.emplace(space_, *layouts_->orc, wanted);
    orc_locations_ = std::move(wanted);
  }
  return &*orc_;
}

Result<LivepatchState> read_livepatch(const GuestKernel& kernel) {
  const auto& layout = kernel.layouts().livepatch;
  return layout ? read_livepatch(kernel.memory(), *layout) : std::unexpected(layout.error());
}

Result<TransitionNow> read_transition(const GuestKernel& kernel) {
  const auto& layout = kernel.layouts().livepatch;
  return layout ? read_transition(kernel.memory(), *layout) : std::unexpected(layout.error());
}

}  // namespace vpatch::introspect

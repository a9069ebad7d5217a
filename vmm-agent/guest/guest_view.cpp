// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/guest_view.h"

#include <thread>
#include <utility>

#include <fmt/format.h>

#include "introspect/memory/core_memory.h"
#include "vmm-agent/domain/vcpu_registers.h"

namespace vpatch {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kBootPatience{5};
constexpr std::chrono::seconds kRebootPatience{60};
constexpr std::chrono::milliseconds kBootRetry{100};

/// Whether asking again may help: the guest changed under the reader, or, `rebooting`, has no
/// kernel yet.
bool passing(introspect::Errc code, bool rebooting) {
  using introspect::Errc;
  return code == Errc::torn || code == Errc::ambiguous ||
         (rebooting && (code == Errc::not_found || code == Errc::corrupt));
}

}  // namespace

Error from_introspect(const introspect::Error& error) {
  std::string hint;
  switch (error.code) {
    case introspect::Errc::permission:
      hint =
          "Run vpatch as root on the host where the VM runs (it needs CAP_SYS_PTRACE). An "
          "encrypted guest (SEV, TDX) cannot be looked into at all.";
      break;
    case introspect::Errc::not_found:
      hint =
          "Is the guest a Linux 6.0 or later, past its first second, with CONFIG_VMCORE_INFO, "
          "CONFIG_KALLSYMS and CONFIG_DEBUG_INFO_BTF?";
      break;
    case introspect::Errc::torn:
    case introspect::Errc::ambiguous:
      hint = "The guest may be booting: try again in a moment.";
      break;
    case introspect::Errc::corrupt:
    case introspect::Errc::out_of_range:
      hint = "The guest's memory does not hold what its kernel says it does; look at its console.";
      break;
    case introspect::Errc::no_memory:
    case introspect::Errc::io:
      break;
  }
  return {Outcome::unreachable, error.what, std::move(hint)};
}

GuestView::GuestView(Domain* domain, std::string name, OpenedMemory opened)
    : domain_(domain),
      identity_(domain != nullptr ? domain->identity() : std::string()),
      name_(std::move(name)),
      memory_(std::move(opened.memory)),
      backend_(opened.backend),
      vmm_(std::move(opened.vmm)) {}

Result<GuestView> GuestView::open(Domain& domain, const BootCache& cache,
                                  const qmp::CallOptions& options) {
  auto opened = open_guest_memory(domain, options);
  if (!opened) {
    return std::unexpected(std::move(opened.error()).in_context(domain.name()));
  }
  GuestView view(&domain, domain.name(), *std::move(opened));
  view.kept_ = cache.load(domain.identity());
  if (auto done = view.attach(view.kept_, options); !done) {
    return std::unexpected(std::move(done.error()).in_context(domain.name()));
  }
  return view;
}

Result<GuestView> GuestView::open_core(const std::filesystem::path& path) {
  auto core = introspect::open_core(path);
  if (!core) {
    return fail(Outcome::unreachable, fmt::format("{}: {}", path.string(), core.error().what),
                "Write one with: virsh dump --memory-only --format elf DOMAIN FILE");
  }
  auto view = open_memory(std::make_unique<introspect::FileMemory>(std::move(core->memory)),
                          std::move(core->vcpus), path.filename().string());
  if (!view) {
    return std::unexpected(std::move(view.error()).in_context(path.string()));
  }
  return view;
}

Result<GuestView> GuestView::open_memory(std::unique_ptr<introspect::GuestMemory> memory,
                                         std::vector<introspect::VcpuRegisters> registers,
                                         std::string name,
                                         const std::optional<introspect::BootFacts>& known) {
  GuestView view(nullptr, std::move(name), {std::move(memory), MemoryBackend::core});
  view.core_registers_ = std::move(registers);
  if (auto done = view.attach(known, {}); !done) {
    return std::unexpected(std::move(done.error()));
  }
  return view;
}

Result<void> GuestView::attach(const std::optional<introspect::BootFacts>& known,
                               const qmp::CallOptions& options) {
  const bool rebooting = kernel_ != nullptr;
  const auto give_up = steady_clock::now() + (rebooting ? kRebootPatience : kBootPatience);
  for (;;) {
    const auto start = steady_clock::now();
    auto kernel = introspect::GuestKernel::attach(*memory_, known);
    bootstrap_time_ =
        std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - start);
    if (kernel) {
      kernel_ = *std::move(kernel);
      return {};
    }
    if (is_still() || !passing(kernel.error().code, rebooting) || steady_clock::now() >= give_up ||
        options.stop.stop_requested()) {
      return std::unexpected(from_introspect(kernel.error()));
    }
    std::this_thread::sleep_for(kBootRetry);
    memory_->forget();
  }
}

Result<std::vector<introspect::VcpuRegisters>> GuestView::registers(
    const qmp::CallOptions& options) const {
  if (is_still()) {
    return core_registers_;
  }
  if (domain_ == nullptr) {
    return fail(Outcome::internal, "the domain has been let go of");
  }
  return read_registers(*domain_, options);
}

Result<void> GuestView::refresh(const qmp::CallOptions& options) {
  if (is_still()) {
    return {};
  }
  // Shared memory outlives its VMM as long as it is held here.
  if (vmm_ && has_ended(vmm_)) {
    return fail(Outcome::unreachable, fmt::format("{}: the VM has ended", name_));
  }
  memory_->forget();
  kernel_->forget_pages();
  if (kernel_->still_running()) {
    return {};
  }
  return attach({}, options);
}

Result<void> GuestView::write(introspect::GuestVirtAddr address, std::span<const std::byte> bytes) {
  kernel_->forget_pages();
  if (auto done = introspect::write_mapped(*memory_, kernel_->space(), address, bytes); !done) {
    return std::unexpected(from_introspect(done.error()));
  }
  return {};
}

void GuestView::keep(const BootCache& cache) const {
  if (!is_still() && (!kept_ || *kept_ != kernel_->facts())) {
    cache.save(identity_, kernel_->facts());
  }
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/boot_facts.h"

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

/// The answer from `table`, or from `look`, remembered. Only "there is none" is remembered of
/// failures: others may pass.
template <class T, class Look>
Result<T> remembered(BootFacts::Table<T>& table, const std::string& key, const Look& look) {
  if (const auto known = table.find(key); known != table.end()) {
    const std::optional<T>& answer = known->second;
    if (!answer) {
      return fail(Errc::not_found, fmt::format("this kernel has no {}", key));
    }
    return *answer;
  }
  Result<T> found = look();
  if (found) {
    table.emplace(key, *found);
  } else if (found.error().code == Errc::not_found) {
    table.emplace(key, std::nullopt);
  }
  return found;
}

/// What introspection asks for by name, found together in one pass: one name costs as much as all.
/// A name that is missing here is only slower.
constexpr auto kUsualNames = std::to_array<std::string_view>({"__cpu_online_mask",
                                                              "__cpu_possible_mask",
                                                              "__end_init_stack",
                                                              "__end_init_task",
                                                              "__kretprobe_trampoline",
                                                              "__per_cpu_offset",
                                                              "__sched_text_end",
                                                              "__sched_text_start",
                                                              "__start_BTF",
                                                              "__start_init_stack",
                                                              "__start_init_task",
                                                              "__start_orc_unwind",
                                                              "__start_orc_unwind_ip",
                                                              "__stop_BTF",
                                                              "__stop_orc_unwind_ip",
                                                              "_einittext",
                                                              "_etext",
                                                              "_sinittext",
                                                              "_stext",
                                                              "arch_rethook_trampoline",
                                                              "cea_exception_stacks",
                                                              "ftrace_disabled",
                                                              "ftrace_enabled",
                                                              "hardirq_stack_ptr",
                                                              "init_task",
                                                              "klp_mutex",
                                                              "klp_ops",
                                                              "klp_patches",
                                                              "klp_signals_cnt",
                                                              "klp_target_state",
                                                              "klp_transition_patch",
                                                              "kprobe_table",
                                                              "kretprobe_trampoline",
                                                              "modules",
                                                              "nr_cpu_ids",
                                                              "panic_cpu",
                                                              "pcpu_hot",
                                                              "prb",
                                                              "ret_from_fork",
                                                              "ret_from_fork_asm",
                                                              "return_to_handler",
                                                              "runqueues",
                                                              "sysctl_bootid",
                                                              "tainted_mask",
                                                              "tk_core"});

}  // namespace

KernelNames::KernelNames(const VirtualMemory& memory, BootFacts& facts)
    : memory_(&memory), facts_(&facts) {}

Result<std::reference_wrapper<const Kallsyms>> KernelNames::kallsyms() const {
  if (!kallsyms_) {
    auto loaded = Kallsyms::load(*memory_, facts_->text);
    if (!loaded) {
      return std::unexpected(std::move(loaded.error()).in_context("read the guest's kallsyms"));
    }
    kallsyms_ = std::make_unique<const Kallsyms>(*std::move(loaded));
    const auto addresses = kallsyms_->addresses_of(kUsualNames);
    for (std::size_t index = 0; index < addresses.size(); ++index) {
      const auto& found = addresses[index];
      facts_->symbols.emplace(kUsualNames.at(index),
                              found ? std::optional(found->value()) : std::nullopt);
    }
  }
  return *kallsyms_;
}

Result<std::reference_wrapper<const Btf>> KernelNames::btf() const {
  if (btf_) {
    return *btf_;
  }
  const auto start = address_of("__start_BTF");
  const auto stop = address_of("__stop_BTF");
  const auto size = start && stop ? stop->offset_from(*start) : std::nullopt;
  if (!size) {
    return fail(Errc::not_found, "the guest's kernel carries no type information (BTF)");
  }
  if (*size > kMaxBtfSize) {
    return fail(Errc::corrupt, fmt::format("the guest's BTF would have {} bytes", *size));
  }
  std::vector<std::byte> bytes(*size);
  auto done = memory_->read(*start, bytes);
  auto parsed = done ? Btf::parse(std::move(bytes)) : std::unexpected(std::move(done).error());
  if (!parsed) {
    return std::unexpected(std::move(parsed.error()).in_context("read the guest's BTF"));
  }
  btf_ = std::make_unique<const Btf>(*std::move(parsed));
  return *btf_;
}

Result<GuestVirtAddr> KernelNames::address_of(std::string_view name) const {
  const auto found = remembered(facts_->symbols, std::string(name), [&]() -> Result<std::uint64_t> {
    const auto tables = kallsyms();
    if (!tables) {
      return std::unexpected(tables.error());
    }
    const auto address = tables->get().address_of(name);
    if (!address) {
      return std::unexpected(address.error());
    }
    return address->value();
  });
  if (!found) {
    return std::unexpected(found.error());
  }
  return GuestVirtAddr(*found);
}

Result<Member> KernelNames::member(std::string_view type, std::string_view path) const {
  return remembered(facts_->members, fmt::format("{} {}", type, path), [&]() -> Result<Member> {
    const auto types = btf();
    return types ? types->get().member(type, path) : std::unexpected(types.error());
  });
}

Result<std::uint64_t> KernelNames::size_of(std::string_view type) const {
  return remembered(facts_->sizes, std::string(type), [&]() -> Result<std::uint64_t> {
    const auto types = btf();
    return types ? types->get().size_of(type) : std::unexpected(types.error());
  });
}

Result<std::int64_t> KernelNames::enumerator(std::string_view name) const {
  return remembered(facts_->enumerators, std::string(name), [&]() -> Result<std::int64_t> {
    const auto types = btf();
    return types ? types->get().enumerator(name) : std::unexpected(types.error());
  });
}

}  // namespace vpatch::introspect

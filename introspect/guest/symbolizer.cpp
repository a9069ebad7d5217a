// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/symbolizer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

constexpr std::size_t kMaxKnown = 100'000;

Place place_in(const Symbol& symbol, GuestVirtAddr address, std::string module) {
  return {symbol.name, address.offset_from(symbol.address).value_or(0), symbol.size,
          std::move(module)};
}

}  // namespace

std::string Place::text() const {
  std::string text = fmt::format("{}+{:#x}/{:#x}", function, offset, size);
  if (!module.empty()) {
    text += fmt::format(" [{}]", module);
  }
  return text;
}

Symbolizer::Symbolizer(const GuestKernel& kernel, std::vector<Module> modules)
    : kernel_(&kernel), modules_(std::move(modules)), module_symbols_(modules_.size()) {
  const auto start = kernel.names().address_of("__sched_text_start");
  const auto end = kernel.names().address_of("__sched_text_end");
  if (start && end) {
    scheduler_text_ = VirtRange::between(*start, *end);
  }
}

bool Symbolizer::in_scheduler(GuestVirtAddr address) const {
  return scheduler_text_.holds(address, 1);
}

const ModuleSymbols* Symbolizer::symbols_of(std::size_t module) const {
  auto& slot = module_symbols_.at(module);
  if (!slot) {
    const ModuleSymbolTable& table = modules_.at(module).symbols;
    const bool affordable = table.count <= symbols_left_;
    symbols_left_ -= affordable ? table.count : 0;
    slot = std::make_unique<const Result<ModuleSymbols>>(
        affordable ? ModuleSymbols::load(kernel_->memory(), table)
                   : fail(Errc::corrupt, "the modules have more symbols than are believed"));
  }
  return slot->has_value() ? &slot->value() : nullptr;
}

const Result<std::reference_wrapper<const Kallsyms>>& Symbolizer::kallsyms() const {
  if (!kallsyms_) {
    kallsyms_ = kernel_->names().kallsyms();
  }
  return *kallsyms_;
}

std::optional<Place> Symbolizer::look_up(GuestVirtAddr address) const {
  for (std::size_t module = 0; module < modules_.size(); ++module) {
    const bool inside = std::ranges::any_of(
        modules_[module].symbols.text, [&](const auto& text) { return text.holds(address, 1); });
    if (!inside) {
      continue;
    }
    const ModuleSymbols* const symbols = symbols_of(module);
    const auto symbol = symbols != nullptr ? symbols->at(address) : std::nullopt;
    return symbol ? std::optional(place_in(*symbol, address, modules_[module].name)) : std::nullopt;
  }
  const auto& core = kallsyms();
  const auto symbol = core ? core->get().at(address) : std::nullopt;
  return symbol ? std::optional(place_in(*symbol, address, {})) : std::nullopt;
}

std::optional<Place> Symbolizer::place(const Frame& frame) const {
  if (frame.address.value() == 0) {
    return std::nullopt;
  }
  const std::uint64_t back = frame.exact ? 0 : 1;
  const GuestVirtAddr address(frame.address.value() - back);
  const auto known = known_.find(address.value());
  std::optional<Place> found;
  if (known != known_.end()) {
    found = known->second;
  } else {
    found = look_up(address);
    if (known_.size() < kMaxKnown) {
      known_.emplace(address.value(), found);
    }
  }
  if (found) {
    found->offset += back;
  }
  return found;
}

Result<std::vector<Symbol>> Symbolizer::named(std::string_view object,
                                              std::string_view name) const {
  constexpr std::size_t kMost = 64;
  auto symbols = all_named(object, std::span(&name, 1), kMost);
  if (!symbols) {
    return std::unexpected(std::move(symbols).error());
  }
  return std::move(symbols->front());
}

Result<std::vector<std::vector<Symbol>>> Symbolizer::all_named(
    std::string_view object, std::span<const std::string_view> names, std::size_t max) const {
  if (object == "vmlinux") {
    const auto& core = kallsyms();
    if (!core) {
      return std::unexpected(core.error());
    }
    return core->get().all_named(names, max);
  }
  const auto found = std::ranges::find(modules_, object, &Module::name);
  if (found == modules_.end()) {
    return fail(Errc::not_found, fmt::format("the module {} is not loaded", object));
  }
  const auto index = static_cast<std::size_t>(found - modules_.begin());
  const ModuleSymbols* const symbols = symbols_of(index);
  if (symbols == nullptr) {
    return std::unexpected(module_symbols_[index]->error());
  }
  return symbols->all_named(names, max);
}

}  // namespace vpatch::introspect

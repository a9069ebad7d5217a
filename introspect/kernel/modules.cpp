// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/modules.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/list_walk.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch::introspect {
namespace {

/// What the kernel itself holds of a module that is not being unloaded (MODULE_REF_BASE).
constexpr std::int64_t kOwnReferences = 1;

constexpr std::size_t kBuildIdSize = 20;
/// Bounds on the notes looked through for a build ID.
constexpr std::uint32_t kMaxNotes = 16;
constexpr std::uint64_t kMaxNoteSection = 4096;

void probe_text(LayoutProbe& probe, ModuleLayout& layout) {
  if (const auto mem = probe.optional_offset("module", "mem")) {
    const std::uint64_t each = probe.size_of("module_memory");
    const std::uint64_t base = probe.offset("module_memory", "base");
    const std::uint64_t size = probe.offset("module_memory", "size");
    // The enumerators of struct module_memory's index, by their numbers in 6.4 if not told.
    for (const std::int64_t index : {probe.optional_enumerator("MOD_TEXT").value_or(0),
                                     probe.optional_enumerator("MOD_INIT_TEXT").value_or(4)}) {
      if (index >= 0 && index < 16) {
        const std::uint64_t start = *mem + static_cast<std::uint64_t>(index) * each;
        layout.text.push_back({start + base, start + size});
      }
    }
    return;
  }
  for (const auto* part : {"core_layout", "init_layout"}) {
    layout.text.push_back({probe.offset("module", fmt::format("{}.base", part)),
                           probe.offset("module", fmt::format("{}.text_size", part))});
  }
}

std::optional<ModuleLayout::Notes> probe_notes(LayoutProbe& probe) {
  const auto pointer = probe.optional_offset("module", "notes_attrs");
  const auto count = probe.optional_offset("module_notes_attrs", "notes");
  const auto attributes = probe.optional_offset("module_notes_attrs", "attrs");
  const auto attribute_size = probe.optional_size_of("bin_attribute");
  const auto size = probe.optional_offset("bin_attribute", "size");
  const auto address = probe.optional_offset("bin_attribute", "private");
  if (!pointer || !count || !attributes || !attribute_size || !size || !address) {
    return std::nullopt;
  }
  return ModuleLayout::Notes{*pointer, *count, *attributes, *attribute_size, *size, *address};
}

std::string hexadecimal(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  }
  return text;
}

/// The build ID when `section` is a note of it (ELF: three 32-bit words, "GNU", the bytes).
std::string build_id_in(std::span<const std::byte> section) {
  constexpr std::array<std::uint32_t, 4> kHeader = {4, kBuildIdSize, 3, 0x00554e47};
  const FieldView fields(section);
  if (!fields.has(0, sizeof(kHeader) + kBuildIdSize) ||
      fields.get<std::array<std::uint32_t, 4>>(0) != kHeader) {
    return "";
  }
  return hexadecimal(section.subspan(sizeof(kHeader), kBuildIdSize));
}

/// Best effort: a module without readable notes has no build ID.
std::string build_id_from_notes(const VirtualMemory& memory, const ModuleLayout::Notes& layout,
                                FieldView module) {
  const GuestVirtAddr notes = module.pointer(layout.pointer);
  if (notes == GuestVirtAddr()) {
    return "";
  }
  const auto count = read_value<std::uint32_t>(memory, member_at(notes, layout.count));
  for (std::uint32_t index = 0; count && index < std::min(*count, kMaxNotes); ++index) {
    const auto attribute = StructCopy::read(
        memory, member_at(notes, layout.attributes + index * layout.attribute_size),
        layout.attribute_size);
    if (!attribute) {
      return "";
    }
    const auto size = attribute->fields().get<std::uint64_t>(layout.note_size);
    if (size > kMaxNoteSection) {
      continue;
    }
    std::vector<std::byte> section(size);
    if (memory.read(attribute->fields().pointer(layout.note_address), section)) {
      if (std::string id = build_id_in(section); !id.empty()) {
        return id;
      }
    }
  }
  return "";
}

std::string read_build_id(const VirtualMemory& memory, const ModuleLayout& layout,
                          FieldView module) {
  if (layout.build_id) {
    const auto id = module.get<std::array<std::byte, kBuildIdSize>>(*layout.build_id);
    const bool any = std::ranges::any_of(id, [](std::byte byte) { return byte != std::byte{0}; });
    return any ? hexadecimal(id) : "";
  }
  return layout.notes ? build_id_from_notes(memory, *layout.notes, module) : "";
}

ModuleState state_of(std::uint32_t number) {
  // enum module_state; each number is a state of the same name.
  constexpr std::array<ModuleState, 4> kStates = {ModuleState::live, ModuleState::coming,
                                                  ModuleState::going, ModuleState::unformed};
  return number < kStates.size() ? kStates[number] : ModuleState::unknown;
}

std::vector<VirtRange> text_of(const ModuleLayout& layout, FieldView module) {
  std::vector<VirtRange> text;
  for (const ModuleLayout::Text& part : layout.text) {
    const GuestVirtAddr base = module.pointer(part.base);
    const auto size = module.get<std::uint32_t>(part.text_size);
    const auto range = VirtRange::make(base, size);
    if (base != GuestVirtAddr() && size != 0 && range) {
      text.push_back(*range);
    }
  }
  return text;
}

/// A module without a readable table has none: its addresses have no names then.
ModuleSymbolTable symbols_of(const VirtualMemory& memory, const ModuleLayout& layout,
                             FieldView module) {
  ModuleSymbolTable symbols;
  symbols.text = text_of(layout, module);
  const GuestVirtAddr kallsyms = module.pointer(layout.kallsyms);
  if (kallsyms == GuestVirtAddr()) {
    return symbols;
  }
  if (const auto table = StructCopy::read(memory, kallsyms, layout.kallsyms_size)) {
    const FieldView fields = table->fields();
    symbols.symtab = fields.pointer(layout.symtab);
    symbols.count = fields.get<std::uint32_t>(layout.num_symtab);
    symbols.strtab = fields.pointer(layout.strtab);
    symbols.typetab = layout.typetab ? fields.pointer(*layout.typetab) : GuestVirtAddr();
  }
  return symbols;
}

std::optional<OrcTableLocation> orc_of(const ModuleLayout& layout, FieldView module,
                                       const std::vector<VirtRange>& text) {
  if (!layout.orc_count || !layout.orc_ips || !layout.orc_entries || text.empty()) {
    return std::nullopt;
  }
  const auto count = module.get<std::uint32_t>(*layout.orc_count);
  if (count == 0) {
    return std::nullopt;
  }
  return OrcTableLocation{text.front(), module.pointer(*layout.orc_ips),
                          module.pointer(*layout.orc_entries), count};
}

Module decode(const VirtualMemory& memory, const ModuleLayout& layout, const StructCopy& copy) {
  const FieldView fields = copy.fields();
  Module module;
  module.address = copy.address();
  module.name = fields.text(layout.name, layout.name_size);
  module.name.resize(std::min<std::size_t>(module.name.size(), 55));
  module.state = state_of(fields.get<std::uint32_t>(layout.state));
  module.build_id = read_build_id(memory, layout, fields);
  module.taints = fields.get<std::uint64_t>(layout.taints);
  if (layout.refcnt) {
    module.references = std::int64_t{fields.get<std::int32_t>(*layout.refcnt)} - kOwnReferences;
  }
  module.livepatch = layout.livepatch && fields.flag(*layout.livepatch);
  module.symbols = symbols_of(memory, layout, fields);
  module.orc = orc_of(layout, fields, module.symbols.text);
  return module;
}

}  // namespace

Result<ModuleLayout> ModuleLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  ModuleLayout layout;
  layout.modules = probe.symbol("modules");
  layout.size = probe.size_of("module");
  layout.list = probe.offset("module", "list");
  const Member name = probe.member("module", "name");
  layout.name = name.offset();
  layout.name_size = name.size();
  layout.state = probe.offset("module", "state");
  layout.taints = probe.offset("module", "taints");
  layout.refcnt = probe.optional_offset("module", "refcnt");
  layout.build_id = probe.optional_offset("module", "build_id");
  layout.notes = probe_notes(probe);
  layout.livepatch = probe.optional_offset("module", "klp");
  probe_text(probe, layout);
  layout.kallsyms = probe.offset("module", "kallsyms");
  layout.kallsyms_size = probe.size_of("mod_kallsyms");
  layout.symtab = probe.offset("mod_kallsyms", "symtab");
  layout.num_symtab = probe.offset("mod_kallsyms", "num_symtab");
  layout.strtab = probe.offset("mod_kallsyms", "strtab");
  layout.typetab = probe.optional_offset("mod_kallsyms", "typetab");
  layout.orc_count = probe.optional_offset("module", "arch.num_orcs");
  layout.orc_ips = probe.optional_offset("module", "arch.orc_unwind_ip");
  layout.orc_entries = probe.optional_offset("module", "arch.orc_unwind");
  return std::move(probe).finish(std::move(layout));
}

Result<std::vector<Module>> read_modules(const VirtualMemory& memory, const ModuleLayout& layout) {
  const auto entries = retry_torn(
      [&] { return read_list(memory, layout.modules, {layout.list, layout.size, kMaxModules}); });
  if (!entries) {
    return std::unexpected(Error(entries.error()).in_context("list the guest's modules"));
  }
  std::vector<Module> modules;
  for (const StructCopy& entry : *entries) {
    Module module = decode(memory, layout, entry);
    if (module.state != ModuleState::unformed) {
      modules.push_back(std::move(module));
    }
  }
  return modules;
}

}  // namespace vpatch::introspect

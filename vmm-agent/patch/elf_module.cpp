// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/elf_module.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>

#include <fmt/format.h>
#include <gelf.h>
#include <libelf.h>

#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

struct ElfEnd {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using ElfHandle = std::unique_ptr<Elf, ElfEnd>;

constexpr std::string_view kBuildIdSection = ".note.gnu.build-id";
constexpr std::size_t kMaxBuildId = 64;
// Far more than a module can have, and small enough that offsets in a section never overflow. Only
// SHT_NOBITS gets near.
constexpr std::uint64_t kMaxSectionSize = std::uint64_t{1} << 40;

std::string elf_error() {
  const char* const text = elf_errmsg(-1);
  return text == nullptr ? "unknown libelf error" : text;
}

std::uint64_t width_of(std::uint32_t type) {
  switch (type) {
    case R_X86_64_64:
    case R_X86_64_PC64:
      return 8;
    default:
      return 4;
  }
}

std::string hexadecimal(ByteView view) {
  std::string text;
  for (const std::byte b : view.bytes())
    text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

}  // namespace

bool ElfSection::is_loaded() const {
  return (flags & SHF_ALLOC) != 0;
}
bool ElfSection::is_code() const {
  return (flags & SHF_EXECINSTR) != 0;
}

/// Fills an ElfModule through libelf, which works on a copy of its own: elf_memory() may write to
/// what it is given.
class ElfModule::Loader {
 public:
  Loader(ByteView file, ElfModule& module)
      : file_(file), copy_(file.text().begin(), file.text().end()), module_(module) {}

  Result<void> load() {
    if (elf_version(EV_CURRENT) == EV_NONE) {
      return fail(Outcome::internal, "libelf: " + elf_error());
    }
    elf_.reset(elf_memory(copy_.data(), copy_.size()));
    if (!elf_ || elf_kind(elf_.get()) != ELF_K_ELF) return refuse_corrupt(elf_error());
    if (auto r = load_sections(); !r) return r;
    if (auto r = load_symbols(); !r) return r;
    if (auto r = load_relocations(); !r) return r;
    load_build_id();
    return {};
  }

 private:
  Result<void> load_sections() {
    std::size_t count = 0;
    std::size_t names = 0;
    if (elf_getshdrnum(elf_.get(), &count) != 0 || elf_getshdrstrndx(elf_.get(), &names) != 0) {
      return refuse_corrupt(elf_error());
    }
    std::vector<std::uint32_t> name_offsets;
    for (std::size_t i = 0; i < count; ++i) {
      GElf_Shdr header;
      if (gelf_getshdr(elf_getscn(elf_.get(), i), &header) == nullptr) {
        return refuse_corrupt(fmt::format("section {}: {}", i, elf_error()));
      }
      if (header.sh_size > kMaxSectionSize) {
        return refuse_corrupt(fmt::format("section {} claims {} bytes", i, header.sh_size));
      }
      const bool in_file = i != 0 && header.sh_type != SHT_NOBITS && header.sh_type != SHT_NULL;
      const auto bytes = file_.slice(header.sh_offset, header.sh_size);
      if (in_file && !bytes) return refuse_corrupt(fmt::format("section {} is not all there", i));
      module_.sections_.push_back({.name = {},
                                   .type = header.sh_type,
                                   .flags = header.sh_flags,
                                   .size = header.sh_size,
                                   .bytes = in_file ? *bytes : ByteView(),
                                   .link = header.sh_link,
                                   .info = header.sh_info});
      entry_sizes_.push_back(header.sh_entsize);
      name_offsets.push_back(header.sh_name);
    }
    return name_sections(names, name_offsets);
  }

  Result<void> name_sections(std::size_t table, const std::vector<std::uint32_t>& offsets) {
    auto& sections = module_.sections_;
    if (table >= sections.size() || sections[table].type != SHT_STRTAB) {
      return refuse_corrupt("no section names");
    }
    for (std::size_t i = 1; i < sections.size(); ++i) {
      const auto name = sections[table].bytes.c_string(offsets[i]);
      if (!name) return refuse_corrupt(fmt::format("section {} has no valid name", i));
      sections[i].name = *name;
    }
    return {};
  }

  /// The table's data as libelf converts it, after the checks that libelf leaves to its callers.
  Result<Elf_Data*> table(std::uint32_t index, std::uint64_t entry_size) {
    const auto& section = module_.sections_[index];
    if (entry_sizes_[index] != entry_size || section.size % entry_size != 0) {
      return refuse_corrupt(fmt::format("section {} has entries of a wrong size", section.name));
    }
    Elf_Data* const data = elf_getdata(elf_getscn(elf_.get(), index), nullptr);
    if (data == nullptr || data->d_size != section.size) {
      return refuse_corrupt(fmt::format("section {}: {}", section.name, elf_error()));
    }
    return data;
  }

  Result<void> load_symbols() {
    const auto& sections = module_.sections_;
    const auto is_table = [](const ElfSection& s) { return s.type == SHT_SYMTAB; };
    const auto found = std::ranges::find_if(sections, is_table);
    if (found == sections.end()) {
      return fail(Outcome::refused, "no symbol table: stripped of what the kernel needs to load it",
                  "Use strip --strip-debug, not a plain strip, or build the module again.");
    }
    if (std::count_if(found, sections.end(), is_table) > 1) {
      return refuse_corrupt("more than one symbol table");
    }
    symbol_table_ = static_cast<std::uint32_t>(found - sections.begin());
    if (found->link >= sections.size() || sections[found->link].type != SHT_STRTAB) {
      return refuse_corrupt("the symbol table has no names");
    }
    module_.symbol_names_ = sections[found->link].bytes;
    const auto names = module_.symbol_names_.text();
    if (names.empty() || names.back() != '\0') {
      return refuse_corrupt("the names of symbols do not end with a NUL");
    }
    const auto data = table(symbol_table_, sizeof(Elf64_Sym));
    if (!data) return std::unexpected(data.error());
    return copy_symbols(*data, static_cast<std::uint32_t>(found->size / sizeof(Elf64_Sym)));
  }

  Result<void> copy_symbols(Elf_Data* data, std::uint32_t count) {
    module_.symbols_.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      GElf_Sym symbol;
      if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) {
        return refuse_corrupt(fmt::format("symbol {}: {}", i, elf_error()));
      }
      if (symbol.st_name >= module_.symbol_names_.size()) {
        return refuse_corrupt(fmt::format("symbol {} has no valid name", i));
      }
      if (symbol.st_shndx < SHN_LORESERVE && symbol.st_shndx >= module_.section_count()) {
        return refuse_corrupt(fmt::format("symbol {} is in no section of the file", i));
      }
      module_.symbols_.push_back({.value = symbol.st_value,
                                  .size = symbol.st_size,
                                  .name = symbol.st_name,
                                  .section = symbol.st_shndx,
                                  .type = static_cast<std::uint8_t>(GELF_ST_TYPE(symbol.st_info))});
    }
    return {};
  }

  Result<void> load_relocations() {
    module_.relocations_.resize(module_.sections_.size());
    for (std::uint32_t i = 1; i < module_.section_count(); ++i) {
      const auto& section = module_.sections_[i];
      if (section.type != SHT_RELA && section.type != SHT_REL) continue;
      if (section.info == 0 || section.info >= module_.section_count()) {
        return refuse_corrupt(fmt::format("{} changes no section of the file", section.name));
      }
      if (!module_.sections_[section.info].is_loaded()) continue;  // the kernel passes these over
      if (section.type == SHT_REL) {
        return refuse_corrupt(fmt::format("{}: x86-64 has no REL relocations", section.name));
      }
      if (section.link != symbol_table_) {
        return refuse_corrupt(fmt::format("{} does not use the symbol table", section.name));
      }
      if (auto r = copy_relocations(i); !r) return r;
    }
    for (auto& list : module_.relocations_) {
      std::ranges::sort(list, {}, &ElfRelocation::offset);
    }
    return {};
  }

  Result<void> copy_relocations(std::uint32_t index) {
    const auto& section = module_.sections_[index];
    const auto& changed = module_.sections_[section.info];
    auto& list = module_.relocations_[section.info];
    const auto data = table(index, sizeof(Elf64_Rela));
    if (!data) return std::unexpected(data.error());
    const auto count = section.size / sizeof(Elf64_Rela);
    for (std::uint64_t i = 0; i < count; ++i) {
      GElf_Rela rela;
      if (gelf_getrela(*data, static_cast<int>(i), &rela) == nullptr) {
        return refuse_corrupt(fmt::format("{}: {}", section.name, elf_error()));
      }
      const auto type = static_cast<std::uint32_t>(GELF_R_TYPE(rela.r_info));
      const std::uint64_t symbol = GELF_R_SYM(rela.r_info);
      if (symbol >= module_.symbols_.size()) {
        return refuse_corrupt(fmt::format("{}: a relocation names no symbol", section.name));
      }
      if (type == R_X86_64_NONE) continue;
      const std::uint64_t width = width_of(type);
      if (width > changed.size || rela.r_offset > changed.size - width) {
        return refuse_corrupt(
            fmt::format("{}: a relocation lies outside {}", section.name, changed.name));
      }
      list.push_back({.offset = rela.r_offset,
                      .addend = rela.r_addend,
                      .symbol = static_cast<std::uint32_t>(symbol),
                      .type = type});
    }
    return {};
  }

  /// A note that cannot be read is as none: the kernel does not need it to load the module.
  void load_build_id() {
    const auto found = module_.find_loaded(kBuildIdSection);
    const auto index = found ? *found : std::nullopt;
    if (!index) return;
    const auto& section = module_.sections_[*index];
    if (section.type != SHT_NOTE) return;
    Elf_Data* const data = elf_getdata(elf_getscn(elf_.get(), *index), nullptr);
    if (data == nullptr) return;
    std::size_t offset = 0;
    GElf_Nhdr note;
    std::size_t name_offset = 0;
    std::size_t value_offset = 0;
    while ((offset = gelf_getnote(data, offset, &note, &name_offset, &value_offset)) > 0) {
      const auto name = section.bytes.slice(name_offset, note.n_namesz);
      const auto value = section.bytes.slice(value_offset, note.n_descsz);
      if (!name || !value || note.n_type != NT_GNU_BUILD_ID) continue;
      if (name->text() != std::string_view("GNU\0", 4) || value->size() > kMaxBuildId) continue;
      module_.build_id_ = hexadecimal(*value);
      return;
    }
  }

  ByteView file_;
  std::vector<char> copy_;
  ElfHandle elf_;
  ElfModule& module_;
  std::vector<std::uint64_t> entry_sizes_;
  std::uint32_t symbol_table_ = 0;
};

Result<ElfModule> ElfModule::open(ByteView file) {
  ElfModule module;
  if (auto r = Loader(file, module).load(); !r) return std::unexpected(r.error());
  module.index_symbols();
  return module;
}

void ElfModule::index_symbols() {
  for (std::uint32_t i = 0; i < symbols_.size(); ++i) {
    const auto& symbol = symbols_[i];
    if (symbol.section == SHN_UNDEF || symbol.section >= SHN_LORESERVE) continue;
    const Place place{symbol.section, symbol.value};
    if (symbol.type == STT_FUNC) functions_.push_back({.place = place, .symbol = i});
    if (symbol.type == STT_OBJECT && symbol.size != 0) {
      objects_.push_back({.place = place, .size = symbol.size});
    }
  }
  // Of several names for one place the first in the symbol table is the one shown.
  std::ranges::sort(functions_, [](const Named& a, const Named& b) {
    return a.place != b.place ? a.place < b.place : a.symbol < b.symbol;
  });
  // Of several symbols for one place the largest stands first, and stays.
  std::ranges::sort(objects_, [](const Sized& a, const Sized& b) {
    return a.place != b.place ? a.place < b.place : a.size > b.size;
  });
  const auto repeated = std::ranges::unique(objects_, {}, &Sized::place);
  objects_.erase(repeated.begin(), repeated.end());
}

Result<std::optional<std::uint32_t>> ElfModule::find_loaded(std::string_view name) const {
  std::optional<std::uint32_t> found;
  for (std::uint32_t i = 1; i < section_count(); ++i) {
    if (sections_[i].name != name || !sections_[i].is_loaded()) continue;
    if (found) return refuse_corrupt(fmt::format("more than one section {}", name));
    found = i;
  }
  return found;
}

std::string_view ElfModule::symbol_name(const ElfSymbol& symbol) const {
  return symbol_names_.c_string(symbol.name).value_or(std::string_view{});
}

std::span<const ElfRelocation> ElfModule::relocations(std::uint32_t section, std::uint64_t begin,
                                                      std::uint64_t end) const {
  const auto& list = relocations_[section];
  const auto first = std::ranges::lower_bound(list, begin, {}, &ElfRelocation::offset);
  const auto last = std::ranges::lower_bound(first, list.end(), end, {}, &ElfRelocation::offset);
  return {first, last};
}

std::optional<std::string_view> ElfModule::function_at(Place place) const {
  const auto it = std::ranges::lower_bound(functions_, place, {}, &Named::place);
  if (it == functions_.end() || it->place != place) return std::nullopt;
  return symbol_name(symbols_[it->symbol]);
}

std::optional<std::uint64_t> ElfModule::object_end(Place place) const {
  const auto after = std::ranges::upper_bound(objects_, place, {}, &Sized::place);
  if (after == objects_.begin()) return std::nullopt;
  const auto& nearest = *std::prev(after);
  if (nearest.place.section != place.section) return std::nullopt;
  if (place.offset - nearest.place.offset >= nearest.size) return std::nullopt;
  const std::uint64_t limit = sections_[place.section].size;
  const bool fits = nearest.place.offset <= limit && nearest.size <= limit - nearest.place.offset;
  return fits ? nearest.place.offset + nearest.size : limit;
}

std::optional<std::uint64_t> ElfModule::next_object(Place place) const {
  const auto after = std::ranges::upper_bound(objects_, place, {}, &Sized::place);
  if (after == objects_.end() || after->place.section != place.section) return std::nullopt;
  return after->place.offset;
}

}  // namespace vpatch

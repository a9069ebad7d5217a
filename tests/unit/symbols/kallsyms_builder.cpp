// SPDX-License-Identifier: Apache-2.0
#include "kallsyms_builder.h"

namespace vpatch::introspect::testing {
namespace {

constexpr std::string_view kToken = "task";

std::string compress(char type, std::string_view name) {
  std::string all = type + std::string(name);
  for (auto at = all.find(kToken); at != std::string::npos; at = all.find(kToken)) {
    all.replace(at, kToken.size(), 1, '\1');
  }
  std::string record;
  if (all.size() < 0x80) {
    record.push_back(static_cast<char>(all.size()));
  } else {
    record.push_back(static_cast<char>(0x80U | (all.size() & 0x7fU)));
    record.push_back(static_cast<char>(all.size() >> 7U));
  }
  return record + all;
}

}  // namespace

void KallsymsBuilder::add(std::string_view name, std::uint64_t address, char type) {
  entries_.push_back({std::string(name), address, type});
}

void KallsymsBuilder::put(SparseVirtualMemory& memory) const {
  std::string tokens;
  std::array<std::uint16_t, 256> index{};
  for (std::size_t code = 0; code < index.size(); ++code) {
    index[code] = static_cast<std::uint16_t>(tokens.size());
    tokens +=
        code == 1 ? std::string(kToken) : std::string(code == 0 ? 0 : 1, static_cast<char>(code));
    tokens.push_back('\0');
  }
  std::string names;
  std::vector<std::uint32_t> offsets;
  for (const Entry& entry : entries_) {
    names += compress(entry.type, entry.name);
    if (plain_) {
      offsets.push_back(static_cast<std::uint32_t>(entry.address - kBase));
    } else if (entry.address < kBase) {
      offsets.push_back(static_cast<std::uint32_t>(entry.address));
    } else {
      offsets.push_back(static_cast<std::uint32_t>(kBase - 1 - entry.address));
    }
  }
  memory.put(kCount, static_cast<std::uint32_t>(entries_.size()));
  memory.put(kRelativeBase, kBase);
  memory.put(kTokenIndex, index);
  memory.write(kTokenTable, std::as_bytes(std::span(tokens)));
  memory.write(kNames, std::as_bytes(std::span(names)));
  memory.write(kOffsets, std::as_bytes(std::span(offsets)));
}

VmcoreinfoText KallsymsBuilder::text() const {
  VmcoreinfoText text;
  text.symbols = {{"kallsyms_num_syms", kCount},         {"kallsyms_names", kNames},
                  {"kallsyms_token_table", kTokenTable}, {"kallsyms_token_index", kTokenIndex},
                  {"kallsyms_offsets", kOffsets},        {"kallsyms_relative_base", kRelativeBase}};
  for (const Entry& entry : entries_) {
    if (entry.name == "_stext" || entry.name == "init_uts_ns" || entry.name == "init_top_pgt") {
      text.symbols.emplace(entry.name, GuestVirtAddr(entry.address));
    }
  }
  return text;
}

}  // namespace vpatch::introspect::testing

// SPDX-License-Identifier: Apache-2.0
#include "fake_guest.h"

#include <cstring>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

void put_word(std::string& bytes, std::uint32_t value) {
  char raw[sizeof(value)];
  std::memcpy(raw, &value, sizeof(value));
  bytes.append(raw, sizeof(raw));
}

}  // namespace

std::string note_of(const NoteHeader& header, std::string_view text) {
  std::string note;
  put_word(note, header.name_size);
  put_word(note, header.text_size);
  put_word(note, header.type);
  note.append(header.name);
  note.resize(24, '\0');
  note.append(text);
  return note;
}

std::string note_of(std::string_view text) {
  return note_of({.text_size = static_cast<std::uint32_t>(text.size())}, text);
}

std::string FakeKernel::text() const {
  // The image is linked at 0xffffffff81000000; the shift moves it up, phys_base says where it is.
  const std::uint64_t virt = 0xffffffff81000000 + shift;
  const auto phys_base =
      static_cast<std::int64_t>(image) - static_cast<std::int64_t>(0x1000000 + shift);
  return fmt::format(
      "OSRELEASE={}\nBUILD-ID=7f76f39faf07f34cfa9fadd801e131bfa8cb6dc3\nPAGESIZE=4096\n"
      "SYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)=0\n"
      "SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(init_top_pgt)={:x}\n"
      "NUMBER(phys_base)={}\nKERNELOFFSET={:x}\n",
      release, virt + (uts() - image), virt + (top_table() - image), virt + (top_table() - image),
      phys_base, shift);
}

void FakeKernel::put_image(FakeMemory& memory) const {
  std::string names(std::size_t{6} * 65, '\0');
  names.replace(0, 5, "Linux");
  names.replace(65, 6, "(none)");
  names.replace(130, release.size(), release);
  memory.write(uts(), names);
  memory.write_word(top_table() + kLastEntry, top_entry());
}

void FakeKernel::put(FakeMemory& memory) const {
  put_image(memory);
  memory.write(note, note_of(text()));
}

void FakeKernel::boot(FakeMemory& memory) const {
  memory.write_word(kRealModeTable + kLastEntry, top_entry());
}

}  // namespace vpatch::introspect

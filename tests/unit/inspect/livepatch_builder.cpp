// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/inspect/livepatch_builder.h"

#include <algorithm>

namespace vpatch::test {
namespace {

constexpr std::uint64_t kFunctionText = 32;  ///< bytes of code for each function
constexpr std::uint64_t kPatchSize = 32;     ///< its leading fields are enough
constexpr std::uint64_t kStateSize = 24;
constexpr std::uint64_t kNameInModule = 24;  ///< of struct module.name on 6.1 and 6.12

/// Adds the parts of one module. The members of `out` are the result.
class Maker {
 public:
  Maker(const LivepatchSpec& spec, Livepatch& out) : spec_(spec), out_(out), elf_(out.elf) {}

  void make() {
    add_plain_sections();
    add_patch();
    add_states();
    add_objects();
    add_init();
  }

 private:
  void add_plain_sections() {
    out_.text = elf_.add_section({.name = ".text", .flags = SHF_ALLOC | SHF_EXECINSTR});
    out_.init_text = elf_.add_section(
        {.name = ".init.text", .flags = SHF_ALLOC | SHF_EXECINSTR, .bytes = Bytes(32)});
    out_.strings = elf_.add_section({.name = ".rodata.str1.1", .flags = SHF_ALLOC});
    out_.data = elf_.add_section({.name = ".data", .flags = SHF_ALLOC | SHF_WRITE});

    Bytes info;
    for (const auto& [tag, value] : spec_.modinfo) {
      const auto entry = to_bytes(std::string(tag).append("=").append(value).append(1, '\0'));
      info.insert(info.end(), entry.begin(), entry.end());
    }
    elf_.add_section({.name = ".modinfo", .flags = SHF_ALLOC, .bytes = info});

    Bytes module(128);
    const auto name = to_bytes(spec_.name);
    std::ranges::copy(name, module.begin() + kNameInModule);
    const auto this_module = elf_.add_section(
        {.name = ".gnu.linkonce.this_module", .flags = SHF_ALLOC | SHF_WRITE, .bytes = module});
    out_.this_module_symbol = elf_.add_symbol(
        {.name = "__this_module", .type = STT_OBJECT, .section = this_module, .size = 128});
    // Name and value of a GNU build id note: 01 02 03 04.
    elf_.add_section({.name = ".note.gnu.build-id",
                      .type = SHT_NOTE,
                      .flags = SHF_ALLOC,
                      .bytes = to_bytes(std::string("\4\0\0\0\4\0\0\0\3\0\0\0GNU\0\1\2\3\4", 20))});
  }

  Bytes& data() { return elf_.section(out_.data).bytes; }

  std::uint64_t reserve(const std::string& symbol, std::uint64_t size) {
    const std::uint64_t at = (data().size() + 31) / 32 * 32;
    data().resize(at + size);
    if (spec_.data_symbols) {
      elf_.add_symbol(
          {.name = symbol, .type = STT_OBJECT, .section = out_.data, .value = at, .size = size});
    }
    return at;
  }

  /// Makes the pointer at `from` point at `to` of .data, by the way the spec asks for.
  void point_at_data(std::uint64_t from, std::uint64_t to) {
    if (!spec_.section_symbols) {
      auto& symbols = elf_.symbols();
      const auto it = std::ranges::find_if(symbols, [&](const ElfBuilder::Symbol& s) {
        return s.type == STT_OBJECT && s.section == out_.data && s.value == to;
      });
      if (it != symbols.end()) {
        elf_.relocate(out_.data, from, static_cast<std::uint32_t>(it - symbols.begin()), 0);
        return;
      }
    }
    elf_.relocate(out_.data, from, elf_.section(out_.data).section_symbol,
                  static_cast<std::int64_t>(to));
  }

  void point_at_string(std::uint64_t from, const std::string& text) {
    auto& strings = elf_.section(out_.strings);
    const auto at = static_cast<std::int64_t>(strings.bytes.size());
    const auto bytes = to_bytes(text + '\0');
    strings.bytes.insert(strings.bytes.end(), bytes.begin(), bytes.end());
    elf_.relocate(out_.data, from, strings.section_symbol, at);
  }

  void point_at_function(std::uint64_t from, const std::string& name) {
    auto& text = elf_.section(out_.text);
    const std::uint64_t at = text.bytes.size();
    text.bytes.resize(at + kFunctionText);
    const auto section_symbol = text.section_symbol;
    std::uint32_t symbol = 0;
    if (spec_.text_symbols) {
      symbol = elf_.add_symbol({.name = name,
                                .type = STT_FUNC,
                                .section = out_.text,
                                .value = at,
                                .size = kFunctionText});
    }
    if (symbol == 0 || spec_.section_symbols) {
      elf_.relocate(out_.data, from, section_symbol, static_cast<std::int64_t>(at));
    } else {
      elf_.relocate(out_.data, from, symbol, 0);
    }
  }

  void add_patch() {
    out_.patch_at = reserve("patch", kPatchSize);
    elf_.relocate(out_.data, out_.patch_at, out_.this_module_symbol, 0);
    data()[out_.patch_at + 24] = std::byte{spec_.contents.replace.value_or(false)};
  }

  void add_states() {
    const auto& states = spec_.contents.states;
    if (states.empty()) return;
    out_.states_at = reserve("states", (states.size() + 1) * kStateSize);
    for (std::size_t i = 0; i < states.size(); ++i) {
      put(data(), out_.states_at + i * kStateSize, states[i].id);
      put(data(), out_.states_at + i * kStateSize + 8, states[i].version);
    }
    point_at_data(out_.patch_at + 16, out_.states_at);
  }

  void add_objects() {
    const auto& objects = spec_.contents.objects;
    out_.objects_at = reserve("objs", (objects.size() + 1) * spec_.object_size);
    point_at_data(out_.patch_at + 8, out_.objects_at);
    for (std::size_t i = 0; i < objects.size(); ++i) {
      add_object(objects[i], out_.objects_at + i * spec_.object_size);
    }
  }

  void add_object(const PatchedObject& object, std::uint64_t at) {
    if (object.name != "vmlinux") point_at_string(at, object.name);
    const auto& functions = object.functions;
    const auto array = reserve("funcs", (functions.size() + 1) * spec_.function_size);
    out_.functions_at.push_back(array);
    point_at_data(at + 8, array);
    if (object.callbacks.pre_patch) point_at_function(at + 16, "pre_patch");
    if (object.callbacks.post_patch) point_at_function(at + 24, "post_patch");
    if (object.callbacks.pre_unpatch) point_at_function(at + 32, "pre_unpatch");
    if (object.callbacks.post_unpatch) point_at_function(at + 40, "post_unpatch");
    for (std::size_t i = 0; i < functions.size(); ++i) {
      const auto entry = array + i * spec_.function_size;
      point_at_string(entry, functions[i].name);
      if (!functions[i].replacement.empty()) {
        point_at_function(entry + 8, functions[i].replacement);
      }
      put(data(), entry + 16, functions[i].position);
    }
  }

  /// mov $patch, %rdi; call klp_enable_patch
  void add_init() {
    const auto code = to_bytes(std::string("\x48\xc7\xc7\0\0\0\0\xe8", 8));
    std::ranges::copy(code, elf_.section(out_.init_text).bytes.begin());
    out_.enable_symbol = elf_.add_symbol({.name = "klp_enable_patch"});
    elf_.relocate(out_.init_text, 3, elf_.section(out_.data).section_symbol,
                  static_cast<std::int64_t>(out_.patch_at), R_X86_64_32S);
    elf_.relocate(out_.init_text, 8, out_.enable_symbol, -4, R_X86_64_PLT32);
  }

  const LivepatchSpec& spec_;
  Livepatch& out_;
  ElfBuilder& elf_;
};

}  // namespace

void LivepatchSpec::set(const std::string& tag, const std::string& value) {
  unset(tag);
  modinfo.emplace_back(tag, value);
}

void LivepatchSpec::unset(const std::string& tag) {
  std::erase_if(modinfo, [&](const auto& entry) { return entry.first == tag; });
}

Livepatch make_livepatch(const LivepatchSpec& spec) {
  Livepatch out;
  Maker(spec, out).make();
  return out;
}

Bytes append_signature(Bytes elf, std::uint32_t length) {
  elf.resize(elf.size() + length, std::byte{0x30});
  Bytes trailer(12);
  trailer[2] = std::byte{2};  // PKEY_ID_PKCS7
  for (std::size_t i = 0; i < 4; ++i) {
    trailer[8 + i] = static_cast<std::byte>(length >> (24 - 8 * i) & 0xFF);
  }
  elf.insert(elf.end(), trailer.begin(), trailer.end());
  const auto marker = to_bytes("~Module signature appended~\n");
  elf.insert(elf.end(), marker.begin(), marker.end());
  return elf;
}

}  // namespace vpatch::test

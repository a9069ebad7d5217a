// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/livepatch_file.h"

#include <array>
#include <exception>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>

#include "vmm-agent/patch/byte_view.h"
#include "vmm-agent/patch/elf_header.h"
#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/file_reader.h"
#include "vmm-agent/patch/klp_layout.h"
#include "vmm-agent/patch/klp_symbols.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/module_signature.h"
#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxFile = std::size_t{64} << 20;
constexpr std::string_view kThisModule = ".gnu.linkonce.this_module";
constexpr const char* kUseKbuild =
    "Build the module with the kernel's build system (make -C KERNEL M=DIR modules).";

Result<std::string> sha256(ByteView file) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(file.bytes().data(), file.size(), digest.data(), &size, EVP_sha256(), nullptr) !=
      1) {
    return fail(Outcome::internal, "cannot compute a SHA-256 checksum");
  }
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

/// The part of the file that is ELF: all of it, but for a signature at its end.
Result<ByteView> find_elf(ByteView file, bool& is_signed) {
  if (auto identity = check_elf_identity(file); !identity) return std::unexpected(identity.error());
  const auto signature = find_module_signature(file);
  if (!signature) return std::unexpected(signature.error());
  const auto& appended = *signature;
  is_signed = appended.has_value();
  const auto elf = appended ? file.slice(0, appended->begin) : file;
  if (!elf) return refuse_corrupt("the signature leaves no room for the module");
  const auto end = measure_elf(*elf);
  if (!end) return std::unexpected(end.error());
  if (*end != elf->size()) {
    const auto count = elf->size() - *end;
    const bool after_signature =
        !is_signed && file.text().substr(*end).find(kSignatureMarker) != std::string_view::npos;
    return std::unexpected(
        Error{Outcome::refused,
              fmt::format("{} trailing bytes after the end of the module{}", count,
                          is_signed         ? ", before its signature"
                          : after_signature ? ", which hold a signature that is not at the end"
                                            : ""),
              "Copy the module again, or sign it again: its signature may be cut off or damaged.",
              is_signed || after_signature ? "signature-trailing-garbage" : "trailing-garbage"});
  }
  return *elf;
}

Result<ByteView> loaded_section(const ElfModule& module, std::string_view name) {
  const auto index = module.find_loaded(name);
  if (!index) return std::unexpected(index.error());
  const auto& section = *index;
  if (!section) {
    return fail(Outcome::refused, fmt::format("not a kernel module: it has no {} section", name),
                kUseKbuild);
  }
  return module.section(*section).bytes;
}

/// A value that is shown and compared, so it must be plain text.
Result<std::string> plain(const Modinfo& info, std::string_view tag) {
  const auto value = info.first(tag);
  if (!value.empty() && !is_printable_ascii(value)) {
    return refuse_corrupt(fmt::format("modinfo {} is not printable", tag));
  }
  return std::string(value);
}

Result<std::vector<std::string>> split_depends(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty()) {
    const auto name = list.substr(0, list.find(','));
    if (!is_module_name(name)) return refuse_corrupt("modinfo depends names no valid module");
    names.emplace_back(name);
    list.remove_prefix(std::min(name.size() + 1, list.size()));
  }
  return names;
}

/// The kernel goes by the name inside struct module, whose layout depends on the kernel. All of it
/// is zero in the file but for that name, so it can be compared without knowing where it is.
Result<void> check_own_name(ByteView this_module, const std::string& name) {
  const std::string bounded = '\0' + name + '\0';
  const auto text = this_module.text();
  if (text.starts_with(std::string_view(bounded).substr(1)) || text.find(bounded) != text.npos) {
    return {};
  }
  return fail(Outcome::refused,
              fmt::format("named {} in its modinfo but not in its struct module", name),
              kUseKbuild);
}

Result<void> read_modinfo(const ElfModule& module, LivepatchFile& file) {
  const auto section = loaded_section(module, ".modinfo");
  if (!section) return std::unexpected(section.error());
  const auto info = Modinfo::parse(*section);
  if (!info) return std::unexpected(info.error());
  if (info->first("livepatch") != "Y") {
    return fail(Outcome::refused, "not a livepatch: no livepatch=Y in its modinfo",
                "Mark the module with MODULE_INFO(livepatch, \"Y\"), if it is one.");
  }

  const auto name = info->first("name");
  if (name.empty()) return fail(Outcome::refused, "no module name in its modinfo", kUseKbuild);
  if (!is_module_name(name)) {
    return fail(Outcome::refused,
                "the module name in its modinfo is longer than 55 bytes or has characters other "
                "than A-Z, a-z, "
                "0-9, _ and -",
                "Rename the module and build it again.");
  }
  file.name = name;
  const std::pair<std::string_view, std::string LivepatchFile::*> fields[] = {
      {"vermagic", &LivepatchFile::vermagic},
      {"version", &LivepatchFile::version},
      {"srcversion", &LivepatchFile::srcversion},
  };
  for (const auto& [tag, field] : fields) {
    auto value = plain(*info, tag);
    if (!value) return std::unexpected(value.error());
    file.*field = std::move(*value);
  }
  file.release = file.vermagic.substr(0, file.vermagic.find(' '));
  if (file.release.empty()) {
    return fail(Outcome::refused, "no vermagic in its modinfo: the kernel it is for is unknown",
                kUseKbuild);
  }
  file.description = displayable(info->first("description"));
  auto depends = split_depends(info->first("depends"));
  if (!depends) return std::unexpected(depends.error());
  file.depends = std::move(*depends);
  return {};
}

Result<LivepatchFile> parse(std::vector<std::byte> bytes) {
  LivepatchFile file;
  file.bytes = std::move(bytes);
  const ByteView view(file.bytes);
  if (view.empty()) {
    return fail(Outcome::refused, "empty file", "Build the livepatch module again.");
  }
  if (view.size() > kMaxFile) {
    return fail(Outcome::refused, fmt::format("larger than {} MiB", kMaxFile >> 20),
                "Strip the debug information from the module: strip --strip-debug FILE.");
  }
  const auto elf = find_elf(view, file.is_signed);
  if (!elf) return std::unexpected(elf.error());
  const auto module = ElfModule::open(*elf);
  if (!module) return std::unexpected(module.error());

  if (auto r = read_modinfo(*module, file); !r) return std::unexpected(r.error());
  const auto this_module = loaded_section(*module, kThisModule);
  if (!this_module) return std::unexpected(this_module.error());
  if (auto r = check_own_name(*this_module, file.name); !r) return std::unexpected(r.error());
  file.build_id = module->build_id();

  auto klp = read_klp_patch(*module);
  if (!klp) return std::unexpected(klp.error());
  file.contents = std::move(klp->contents);
  file.contents_unknown = std::move(klp->unknown);
  auto symbols = read_needed_symbols(*module);
  if (!symbols) return std::unexpected(symbols.error());
  file.symbols = std::move(*symbols);

  auto digest = sha256(view);
  if (!digest) return std::unexpected(digest.error());
  file.sha256 = std::move(*digest);
  return file;
}

/// Runs a step of reading, with `origin` in front of its errors. The standard library's exceptions
/// end here.
template <class Step>
Result<LivepatchFile> reading(const std::string& origin, Step step) {
  try {
    auto result = step();
    if (!result) {
      if (result.error().id.empty()) result.error().id = "bad-file";
      return std::unexpected(std::move(result.error()).in_context(origin));
    }
    return result;
  } catch (const std::exception& e) {
    return fail(Outcome::internal, fmt::format("{}: cannot be read: {}", origin, e.what()));
  }
}

}  // namespace

std::string callback_names(const PatchCallbacks& callbacks) {
  std::vector<std::string_view> names;
  if (callbacks.pre_patch) names.emplace_back("pre-patch");
  if (callbacks.post_patch) names.emplace_back("post-patch");
  if (callbacks.pre_unpatch) names.emplace_back("pre-unpatch");
  if (callbacks.post_unpatch) names.emplace_back("post-unpatch");
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<LivepatchFile> parse_livepatch(std::vector<std::byte> bytes, const std::string& origin) {
  return reading(origin, [&] { return parse(std::move(bytes)); });
}

Result<LivepatchFile> read_livepatch(const std::filesystem::path& path) {
  return reading(path.string(), [&]() -> Result<LivepatchFile> {
    auto bytes = read_regular_file(path, kMaxFile);
    if (!bytes) return std::unexpected(bytes.error());
    return parse(std::move(*bytes));
  });
}

}  // namespace vpatch

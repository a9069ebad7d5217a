// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/boot_cache.h"

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"

namespace vpatch {
namespace {

namespace json = boost::json;
using introspect::BootFacts;
using introspect::GuestPhysAddr;
using introspect::GuestVirtAddr;
using introspect::Member;
using introspect::UniqueFd;
using introspect::VmcoreinfoText;

constexpr int kVersion = 2;
constexpr std::size_t kMaxText = std::size_t{4} << 20;

json::value number(const std::optional<std::uint64_t>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::object to_json(const VmcoreinfoText& text) {
  json::object symbols;
  for (const auto& [name, address] : text.symbols) {
    symbols[name] = address.value();
  }
  return {{"release", text.release},
          {"build_id", text.build_id},
          {"kernel_offset", number(text.kernel_offset)},
          {"phys_base", text.phys_base ? json::value(*text.phys_base) : json::value(nullptr)},
          {"uts_name_offset", number(text.uts_name_offset)},
          {"five_levels", number(text.five_levels)},
          {"sme_mask", number(text.sme_mask)},
          {"symbols", std::move(symbols)}};
}

template <class T, class Convert>
json::object to_json(const BootFacts::Table<T>& table, const Convert& convert) {
  json::object object;
  for (const auto& [key, value] : table) {
    object[key] = value ? json::value(convert(*value)) : json::value(nullptr);
  }
  return object;
}

std::optional<std::uint64_t> optional_number(const json::object& object, std::string_view key) {
  const json::value& value = object.at(key);
  return value.is_null() ? std::nullopt : std::optional(value.to_number<std::uint64_t>());
}

VmcoreinfoText text_of(const json::object& object) {
  VmcoreinfoText text;
  text.release = object.at("release").as_string();
  text.build_id = object.at("build_id").as_string();
  text.kernel_offset = optional_number(object, "kernel_offset");
  if (const json::value& base = object.at("phys_base"); !base.is_null()) {
    text.phys_base = base.to_number<std::int64_t>();
  }
  text.uts_name_offset = optional_number(object, "uts_name_offset");
  text.five_levels = optional_number(object, "five_levels");
  text.sme_mask = optional_number(object, "sme_mask");
  for (const auto& [name, address] : object.at("symbols").as_object()) {
    text.symbols.emplace(name, GuestVirtAddr(address.to_number<std::uint64_t>()));
  }
  return text;
}

template <class T, class Convert>
BootFacts::Table<T> table_of(const json::value& value, const Convert& convert) {
  BootFacts::Table<T> table;
  for (const auto& [key, entry] : value.as_object()) {
    table.emplace(key, entry.is_null() ? std::nullopt : std::optional<T>(convert(entry)));
  }
  return table;
}

Member member_of(const json::value& value) {
  const json::array& parts = value.as_array();
  return {parts.at(0).to_number<std::uint64_t>(), parts.at(1).to_number<std::uint64_t>(),
          parts.at(2).to_number<std::uint64_t>()};
}

std::filesystem::path default_folder() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): none is set
    return value != nullptr ? value : "";
  };
  if (const auto chosen = variable("VPATCH_BOOT_CACHE"); !chosen.empty()) {
    return chosen;
  }
  if (geteuid() == 0) {
    return "/var/cache/vpatch";
  }
  if (const auto cache = variable("XDG_CACHE_HOME"); cache.is_absolute()) {
    return cache / "vpatch";
  }
  const auto home = variable("HOME");
  return home.is_absolute() ? home / ".cache" / "vpatch" : std::filesystem::path();
}

}  // namespace

std::string to_text(const BootFacts& facts) {
  const auto same = [](auto value) { return value; };
  const json::object object{
      {"version", kVersion},
      {"note", facts.note.value()},
      {"evidence", static_cast<int>(facts.evidence)},
      {"text", to_json(facts.text)},
      {"boot_stamp", facts.boot_stamp},
      {"members", to_json(facts.members,
                          [](const Member& member) {
                            return json::array{member.bit_offset, member.bit_size, member.elements};
                          })},
      {"sizes", to_json(facts.sizes, same)},
      {"enumerators", to_json(facts.enumerators, same)},
      {"symbols", to_json(facts.symbols, same)}};
  return json::serialize(object);
}

std::optional<BootFacts> parse_boot_facts(std::string_view text) {
  boost::system::error_code error;
  if (text.size() > kMaxText) {
    return std::nullopt;
  }
  const json::value value = json::parse(text, error);
  if (error) {
    return std::nullopt;
  }
  try {  // Boost.JSON reports a missing key or another type by exception
    const json::object& object = value.as_object();
    if (object.at("version").to_number<int>() != kVersion) {
      return std::nullopt;
    }
    BootFacts facts;
    facts.note = GuestPhysAddr(object.at("note").to_number<std::uint64_t>());
    const int evidence = object.at("evidence").to_number<int>();
    if (evidence < 0 || evidence > static_cast<int>(introspect::Evidence::booted)) {
      return std::nullopt;
    }
    facts.evidence = static_cast<introspect::Evidence>(evidence);
    facts.text = text_of(object.at("text").as_object());
    facts.boot_stamp = object.at("boot_stamp").to_number<std::uint64_t>();
    const auto plain = [](const json::value& entry) { return entry.to_number<std::uint64_t>(); };
    facts.members = table_of<Member>(object.at("members"), member_of);
    facts.sizes = table_of<std::uint64_t>(object.at("sizes"), plain);
    facts.enumerators = table_of<std::int64_t>(object.at("enumerators"), [](const auto& entry) {
      return entry.template to_number<std::int64_t>();
    });
    facts.symbols = table_of<std::uint64_t>(object.at("symbols"), plain);
    return facts;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

BootCache::BootCache() : folder_(default_folder()) {}

std::filesystem::path BootCache::file(const std::string& identity) const {
  return folder_ / "boot" / (identity + ".json");
}

std::optional<BootFacts> BootCache::load(const std::string& identity) const {
  if (folder_.empty()) {
    return std::nullopt;
  }
  const UniqueFd fd(open(file(identity).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  // What another user could have written is not ours.
  if (!fd || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
      status.st_size < 0 || static_cast<std::size_t>(status.st_size) > kMaxText) {
    return std::nullopt;
  }
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + have, text.size() - have);
    if (got <= 0) {
      return std::nullopt;
    }
    have += static_cast<std::size_t>(got);
  }
  return parse_boot_facts(text);
}

void BootCache::save(const std::string& identity, const BootFacts& facts) const {
  if (folder_.empty()) {
    return;
  }
  std::error_code error;
  const std::filesystem::path target = file(identity);
  std::filesystem::create_directories(target.parent_path(), error);
  std::filesystem::permissions(target.parent_path(), std::filesystem::perms::owner_all, error);
  std::string temporary = target.string() + ".XXXXXX";
  const UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
  if (!fd) {
    return;
  }
  const std::string text = to_text(facts);
  const bool written =
      write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!written || rename(temporary.c_str(), target.c_str()) != 0) {
    unlink(temporary.c_str());
  }
}

}  // namespace vpatch

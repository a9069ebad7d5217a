// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/vmcoreinfo_text.h"

#include <algorithm>
#include <charconv>
#include <concepts>
#include <memory>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

// __START_KERNEL_map, and the most an image and its shift can take (KERNEL_IMAGE_SIZE).
constexpr GuestVirtAddr kImageMap(0xffffffff80000000);
constexpr std::uint64_t kImageMapSize = std::uint64_t{1} << 30;

constexpr std::size_t kMaxRelease = 64;  // struct new_utsname has 65 bytes, one of them the NUL
constexpr std::size_t kMaxBuildId = 64;  // digits; the usual SHA-1 has 40
constexpr std::size_t kMaxSymbol = 512;  // KSYM_NAME_LEN

bool printable(char c) {
  return c >= 0x20 && c < 0x7f;
}
bool hex_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}
bool symbol_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '.' || c == '$';
}

/// The whole of `digits` as a number, or nothing.
template <std::integral Number>
std::optional<Number> number(std::string_view digits, int base) {
  Number value{};
  const char* const end = std::to_address(digits.end());
  const auto [stop, error] = std::from_chars(std::to_address(digits.begin()), end, value, base);
  if (digits.empty() || error != std::errc{} || stop != end) {
    return std::nullopt;
  }
  return value;
}

std::unexpected<Error> bad_value(std::string_view key) {
  return fail(Errc::corrupt, fmt::format("VMCOREINFO has a malformed {}", key));
}

/// Sets `slot`, or says whether what is there already is the same.
template <class T>
bool set_once(std::optional<T>& slot, T value) {
  if (!slot) {
    slot = std::move(value);
    return true;
  }
  return *slot == value;
}

/// Collects what the lines say. Each take_ returns false for a value that is malformed or unlike an
/// earlier one.
class Lines {
 public:
  Result<void> take(std::string_view line) {
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) {
      return {};
    }
    const auto key = line.substr(0, equals);
    const auto value = line.substr(equals + 1);
    if (!take_known(key, value)) {
      // A symbol's name has not been checked yet, but the text is printable and bounded.
      return bad_value(key.substr(0, kMaxSymbol));
    }
    return {};
  }

  Result<VmcoreinfoText> finish() && {
    if (!release_) {
      return fail(Errc::corrupt, "VMCOREINFO has no OSRELEASE");
    }
    if (!page_size_) {
      return fail(Errc::corrupt, "VMCOREINFO has no PAGESIZE");
    }
    text_.release = *std::move(release_);
    text_.build_id = std::move(build_id_).value_or("");
    return std::move(text_);
  }

 private:
  bool take_known(std::string_view key, std::string_view value) {
    constexpr std::string_view kSymbol = "SYMBOL(";
    if (key == "OSRELEASE") {
      return take_release(value);
    }
    if (key == "BUILD-ID") {
      return take_build_id(value);
    }
    if (key == "PAGESIZE") {
      return take_number(value, 10, page_size_) && page_size_ == kPageSize;
    }
    if (key == "KERNELOFFSET") {
      return take_number(value, 16, text_.kernel_offset);
    }
    if (key == "NUMBER(phys_base)") {
      return take_number(value, 10, text_.phys_base);
    }
    if (key == "OFFSET(uts_namespace.name)") {
      return take_number(value, 10, text_.uts_name_offset);
    }
    if (key == "NUMBER(pgtable_l5_enabled)") {
      return take_number(value, 10, text_.five_levels);
    }
    if (key == "NUMBER(sme_mask)") {
      return take_number(value, 10, text_.sme_mask);
    }
    if (key.starts_with(kSymbol)) {
      return take_symbol(key.substr(kSymbol.size()), value);
    }
    return true;
  }

  bool take_release(std::string_view value) {
    const bool fine = !value.empty() && value.size() <= kMaxRelease &&
                      std::ranges::all_of(value, printable) && !value.contains(' ');
    return fine && set_once(release_, std::string(value));
  }

  bool take_build_id(std::string_view value) {
    const bool fine = !value.empty() && value.size() <= kMaxBuildId && value.size() % 2 == 0 &&
                      std::ranges::all_of(value, hex_digit);
    return fine && set_once(build_id_, std::string(value));
  }

  template <std::integral Number>
  static bool take_number(std::string_view value, int base, std::optional<Number>& slot) {
    const auto parsed = number<Number>(value, base);
    return parsed && set_once(slot, *parsed);
  }

  bool take_symbol(std::string_view rest, std::string_view value) {
    if (!rest.ends_with(')')) {
      return false;
    }
    const auto name = rest.substr(0, rest.size() - 1);
    const auto address = number<std::uint64_t>(value, 16);
    if (name.empty() || name.size() > kMaxSymbol || !std::ranges::all_of(name, symbol_char) ||
        !address) {
      return false;
    }
    const auto [place, added] = text_.symbols.try_emplace(std::string(name), *address);
    return added || place->second == GuestVirtAddr(*address);
  }

  VmcoreinfoText text_;
  std::optional<std::string> release_;
  std::optional<std::string> build_id_;
  std::optional<std::uint64_t> page_size_;
};

}  // namespace

std::optional<GuestVirtAddr> VmcoreinfoText::symbol(std::string_view name) const {
  const auto found = symbols.find(name);
  if (found == symbols.end()) {
    return std::nullopt;
  }
  return found->second;
}

std::optional<GuestPhysAddr> VmcoreinfoText::kernel_phys(GuestVirtAddr address) const {
  const auto offset = address.offset_from(kImageMap);
  if (!phys_base || !offset || *offset >= kImageMapSize) {
    return std::nullopt;
  }
  if (*phys_base >= 0) {
    return GuestPhysAddr(*offset).plus(static_cast<std::uint64_t>(*phys_base));
  }
  const auto back = std::uint64_t{0} - static_cast<std::uint64_t>(*phys_base);
  const auto left = GuestPhysAddr(*offset).offset_from(GuestPhysAddr(back));
  return left ? std::optional(GuestPhysAddr(*left)) : std::nullopt;
}

Result<VmcoreinfoText> parse_vmcoreinfo(std::string_view text) {
  if (text.size() > kMaxVmcoreinfoText) {
    return fail(Errc::corrupt,
                fmt::format("VMCOREINFO text of {} bytes is too large", text.size()));
  }
  if (!std::ranges::all_of(text, [](char c) { return c == '\n' || printable(c); })) {
    return fail(Errc::corrupt, "VMCOREINFO text is not printable ASCII");
  }
  Lines lines;
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    if (auto taken = lines.take(text.substr(0, end)); !taken) {
      return std::unexpected(std::move(taken).error());
    }
    text.remove_prefix(end + 1);
  }
  return std::move(lines).finish();
}

}  // namespace vpatch::introspect

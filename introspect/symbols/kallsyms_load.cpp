// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "introspect/symbols/kallsyms.h"
#include "introspect/symbols/name_index.h"
#include "introspect/symbols/read_bytes.h"

namespace vpatch::introspect {
namespace {

constexpr std::size_t kMaxNames = std::size_t{64} << 20U;  // bytes of all names
constexpr std::size_t kNamesChunk = std::size_t{64} << 10U;
constexpr std::size_t kUsualName = 14;  // bytes of a compressed name with its length, rounded up

/// How a kernel turns an entry of kallsyms_offsets into an address.
enum class Encoding : std::uint8_t {
  offsets,          ///< from kallsyms_relative_base on
  absolute_percpu,  ///< CONFIG_KALLSYMS_ABSOLUTE_PERCPU: negative ones, from the base's other side
};

std::uint64_t address_from(Encoding encoding, std::uint64_t base, std::uint32_t offset) {
  if (encoding == Encoding::offsets) {
    return base + offset;
  }
  const auto with_sign =
      static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(offset)});
  return (offset >> 31U) == 0 ? offset : base - 1 - with_sign;
}

}  // namespace

/// Copies the tables of one kernel, in the order that each needs the ones before.
class Kallsyms::Loader {
 public:
  Loader(const VirtualMemory& memory, const VmcoreinfoText& info) : memory_(memory), info_(info) {}

  Result<Kallsyms> load() && {
    for (const auto step : {&Loader::find_tables, &Loader::copy_tokens, &Loader::copy_names,
                            &Loader::copy_addresses}) {
      if (auto done = (this->*step)(); !done) {
        return std::unexpected(std::move(done).error().in_context("load kallsyms"));
      }
    }
    return std::move(table_);
  }

 private:
  Result<void> find_tables() {
    const std::pair<std::string_view, GuestVirtAddr*> wanted[] = {
        {"kallsyms_num_syms", &count_at_},         {"kallsyms_names", &names_at_},
        {"kallsyms_token_table", &token_text_at_}, {"kallsyms_token_index", &token_index_at_},
        {"kallsyms_offsets", &offsets_at_},        {"kallsyms_relative_base", &base_at_},
    };
    for (const auto& [name, address] : wanted) {
      const auto symbol = info_.symbol(name);
      if (!symbol) {
        return fail(Errc::not_found, fmt::format("VMCOREINFO does not tell {}", name));
      }
      *address = *symbol;
    }
    const auto count = read_value<std::uint32_t>(memory_, count_at_);
    if (!count) {
      return std::unexpected(count.error());
    }
    if (*count == 0 || *count > kMaxKallsyms) {
      return fail(Errc::corrupt, fmt::format("there would be {} symbols", *count));
    }
    count_ = *count;
    return {};
  }

  Result<void> copy_tokens() {
    const auto index = read_value<std::array<std::uint16_t, 256>>(memory_, token_index_at_);
    if (!index) {
      return std::unexpected(index.error());
    }
    const std::size_t last = *std::ranges::max_element(*index);
    auto text = read_bytes(memory_, token_text_at_, last + 1, last + 1 + kMaxName);
    if (!text) {
      return std::unexpected(std::move(text).error());
    }
    table_.token_text_ = *std::move(text);
    for (std::size_t at = 0; at < index->size(); ++at) {
      const std::size_t offset = (*index)[at];
      const auto rest = std::span(table_.token_text_).subspan(offset);
      const auto* start = reinterpret_cast<const char*>(rest.data());
      const std::size_t length = ::strnlen(start, std::min(rest.size(), kMaxName));
      table_.tokens_[at] = {static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(length)};
    }
    return {};
  }

  /// How long the names are together is written nowhere: they are walked as they are read.
  Result<void> copy_names() {
    auto& names = table_.names_;
    table_.name_offsets_.reserve(count_);
    std::size_t at = 0;
    for (std::uint32_t symbol = 0; symbol < count_; ++symbol) {
      // A name has at least its type letter, so two bytes are there for any.
      if (auto done = have_names(at + 2); !done) {
        return done;
      }
      const auto low = std::to_integer<std::size_t>(names[at]);
      const bool two_bytes = (low & 0x80U) != 0;
      const std::size_t length =
          two_bytes ? (low & 0x7fU) | (std::to_integer<std::size_t>(names[at + 1]) << 7U) : low;
      const std::size_t end = at + (two_bytes ? 2 : 1) + length;
      if (length == 0) {
        return fail(Errc::corrupt, fmt::format("symbol {} has no name", symbol));
      }
      if (auto done = have_names(end); !done) {
        return done;
      }
      table_.name_offsets_.push_back(static_cast<std::uint32_t>(at));
      at = end;
    }
    names.resize(at);
    return {};
  }

  Result<void> have_names(std::size_t end) {
    auto& names = table_.names_;
    while (names.size() < end) {
      const auto next = names_at_.plus(names.size());
      if (!next || names.size() >= kMaxNames) {
        return fail(Errc::corrupt, "the names never end");
      }
      const std::size_t most = names.empty() ? count_ * kUsualName : 0;
      auto more = read_bytes(memory_, *next, 1, std::max(most, kNamesChunk));
      if (!more) {
        return std::unexpected(std::move(more).error());
      }
      if (names.empty()) {
        names = *std::move(more);
      } else {
        names.insert(names.end(), more->begin(), more->end());
      }
    }
    return {};
  }

  Result<void> copy_addresses() {
    const auto base = read_value<std::uint64_t>(memory_, base_at_);
    if (!base) {
      return std::unexpected(base.error());
    }
    std::vector<std::uint32_t> offsets(count_);
    if (auto done = memory_.read(offsets_at_, std::as_writable_bytes(std::span(offsets))); !done) {
      return done;
    }
    for (const Encoding encoding : {Encoding::absolute_percpu, Encoding::offsets}) {
      decode_addresses(encoding, *base, offsets);
      if (agrees_with_vmcoreinfo()) {
        const auto image = std::ranges::lower_bound(table_.addresses_, *base);
        table_.first_in_image_ = static_cast<std::size_t>(image - table_.addresses_.begin());
        return {};
      }
    }
    return fail(Errc::corrupt, "the symbols do not lie where VMCOREINFO says");
  }

  void decode_addresses(Encoding encoding, std::uint64_t base,
                        std::span<const std::uint32_t> offsets) {
    table_.addresses_.clear();
    table_.addresses_.reserve(offsets.size());
    for (const std::uint32_t offset : offsets) {
      table_.addresses_.push_back(address_from(encoding, base, offset));
    }
  }

  /// Whether the addresses rise, and one that VMCOREINFO tells has the name it tells. By the wrong
  /// encoding none would.
  bool agrees_with_vmcoreinfo() const {
    if (!std::ranges::is_sorted(table_.addresses_)) {
      return false;
    }
    return std::ranges::any_of(kAnchors, [this](std::string_view anchor) {
      const auto told = info_.symbol(anchor);
      return told && has(*told, anchor);
    });
  }

  bool has(GuestVirtAddr address, std::string_view name) const {
    const auto& all = table_.addresses_;
    const auto [first, last] = std::ranges::equal_range(all, address.value());
    std::string text;
    for (auto at = first; at != last; ++at) {
      table_.decode(static_cast<std::size_t>(at - all.begin()), text);
      if (std::string_view(text).substr(1) == name) {
        return true;
      }
    }
    return false;
  }

  static constexpr std::array<std::string_view, 4> kAnchors = {"_stext", "init_uts_ns",
                                                               "init_top_pgt", "swapper_pg_dir"};

  const VirtualMemory& memory_;
  const VmcoreinfoText& info_;
  GuestVirtAddr count_at_, names_at_, token_text_at_, token_index_at_, offsets_at_, base_at_;
  std::uint32_t count_ = 0;
  Kallsyms table_;
};

Result<Kallsyms> Kallsyms::load(const VirtualMemory& memory, const VmcoreinfoText& info) {
  return Loader(memory, info).load();
}

}  // namespace vpatch::introspect

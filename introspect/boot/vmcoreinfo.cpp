// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/vmcoreinfo.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "introspect/memory/page_scan.h"

namespace vpatch::introspect {
namespace {

using namespace std::string_view_literals;

// An ELF note: three 32-bit words, the name padded to a multiple of four bytes, the descriptor.
constexpr std::string_view kName = "VMCOREINFO\0"sv;  // its NUL counts
constexpr std::size_t kNameOffset = 12;
constexpr std::size_t kTextOffset = 24;

std::uint32_t word(std::span<const std::byte> bytes, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.subspan(index * sizeof(value)).data(), sizeof(value));
  return value;
}

bool looks_like_note(std::span<const std::byte> page) {
  return std::memcmp(page.data() + kNameOffset, kName.data(), kName.size()) == 0 &&
         word(page, 0) == kName.size() && word(page, 2) == 0;
}

/// Copies the text of the note at `address` once and checks the copy.
Result<VmcoreinfoText> read_note(const GuestMemory& memory, GuestPhysAddr address,
                                 std::uint32_t size) {
  if (size > kMaxVmcoreinfoText) {
    return fail(Errc::corrupt, fmt::format("the text would have {} bytes", size));
  }
  std::vector<std::byte> note(kTextOffset + size);
  if (auto done = memory.read(address, note); !done) {
    return std::unexpected(std::move(done).error());
  }
  if (!looks_like_note(note) || word(note, 1) != size) {
    return fail(Errc::torn, "the note changed while it was read");
  }
  const auto text = std::span<const std::byte>(note).subspan(kTextOffset);
  return parse_vmcoreinfo({reinterpret_cast<const char*>(text.data()), text.size()});
}

/// Takes the notes as they are found and keeps what the choice needs: an answer, and one that
/// contradicts it. Memory does not grow with what the guest holds.
class Choice {
 public:
  void add(VmcoreInfo info) {
    if (info.evidence == Evidence::contradicted) {
      reject(info.note,
             {Errc::corrupt, fmt::format("no kernel {} lies where it says", info.text.release)});
      return;
    }
    if (!chosen_ || info.evidence > chosen_->evidence) {
      chosen_ = std::move(info);
      rival_.reset();
    } else if (!rival_ && info.evidence == chosen_->evidence && info.text != chosen_->text) {
      rival_ = std::move(info);
    }
  }

  void reject(GuestPhysAddr note, Error why) {
    if (!rejected_) {
      rejected_ =
          std::move(why).in_context(fmt::format("read the VMCOREINFO note at {:#x}", note.value()));
    }
  }

  Result<VmcoreInfo> finish(ScanGaps gaps) && {
    if (chosen_ && rival_) {
      return fail(Errc::ambiguous,
                  fmt::format("two VMCOREINFO notes contradict each other: kernel {} at {:#x} and "
                              "kernel {} at {:#x}; the guest may be rebooting",
                              chosen_->text.release, chosen_->note.value(), rival_->text.release,
                              rival_->note.value()));
    }
    if (chosen_) {
      return *std::move(chosen_);
    }
    if (rejected_) {
      return std::unexpected(*std::move(rejected_));
    }
    if (gaps.first_error) {
      return std::unexpected(
          std::move(*gaps.first_error)
              .in_context(fmt::format("look for a VMCOREINFO note ({} unreadable pages)",
                                      gaps.unreadable_pages)));
    }
    return fail(Errc::not_found,
                "no VMCOREINFO note in guest memory: no Linux has booted yet, or "
                "its memory is encrypted");
  }

 private:
  std::optional<VmcoreInfo> chosen_;
  std::optional<VmcoreInfo> rival_;
  std::optional<Error> rejected_;  // why the first invalid candidate is none
};

}  // namespace

Result<VmcoreInfo> find_vmcoreinfo(const GuestMemory& memory) {
  const auto regions = memory.regions();
  if (regions.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  const auto boot = BootEvidence::gather(memory);
  if (!boot) {
    return std::unexpected(boot.error());
  }
  Choice choice;
  const auto all = PhysRange::between(GuestPhysAddr(0), regions.back().end());
  constexpr PagePart kHeader{0, kTextOffset};
  auto gaps = scan_pages(memory, all, kHeader, [&](GuestPhysAddr address, auto header) {
    if (!looks_like_note(header)) {
      return;
    }
    auto text = read_note(memory, address, word(header, 1));
    if (!text) {
      choice.reject(address, std::move(text).error());
      return;
    }
    const Evidence evidence = boot->weigh(memory, *text);
    choice.add({address, *std::move(text), evidence});
  });
  if (!gaps) {
    return std::unexpected(std::move(gaps).error());
  }
  return std::move(choice).finish(*std::move(gaps));
}

Result<VmcoreInfo> read_vmcoreinfo_at(const GuestMemory& memory, GuestPhysAddr note) {
  std::array<std::byte, kTextOffset> header{};
  if (auto done = memory.read(note, header); !done) {
    return std::unexpected(std::move(done).error());
  }
  if (!looks_like_note(header)) {
    return fail(Errc::not_found, fmt::format("no VMCOREINFO note at {:#x}", note.value()));
  }
  auto text = read_note(memory, note, word(header, 1));
  if (!text) {
    return std::unexpected(std::move(text).error());
  }
  const auto boot = BootEvidence::gather(memory);
  if (!boot) {
    return std::unexpected(boot.error());
  }
  const Evidence evidence = boot->weigh(memory, *text);
  if (evidence == Evidence::contradicted) {
    return fail(Errc::corrupt, fmt::format("no kernel {} lies where it says", text->release));
  }
  return VmcoreInfo{note, *std::move(text), evidence};
}

}  // namespace vpatch::introspect

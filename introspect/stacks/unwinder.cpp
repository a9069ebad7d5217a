// SPDX-License-Identifier: Apache-2.0
#include "introspect/stacks/unwinder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

constexpr std::size_t kWord = sizeof(std::uint64_t);

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.subspan(offset, kWord).data(), kWord);
  return value;
}

/// `base` moved by an offset of an ORC entry. May wrap: it is checked where it is read from.
std::uint64_t moved(std::uint64_t base, std::int16_t offset) {
  return base + static_cast<std::uint64_t>(std::int64_t{offset});
}

bool word_fits(std::uint64_t offset, std::uint64_t size) {
  return size >= kWord && offset <= size - kWord;
}

/// Whether all of it can be read from buffers of kMaxRegsSize.
bool usable(const UnwindLayout& at) {
  const auto fits = [&](std::uint64_t offset) { return word_fits(offset, at.regs_size); };
  return at.regs_size <= kMaxRegsSize && fits(at.ip) && fits(at.sp) && fits(at.bp) && fits(at.cs) &&
         fits(at.flags) && fits(at.r10) && fits(at.r13) && fits(at.di) && fits(at.dx) &&
         at.ip < at.cs && at.ip < at.sp && at.frame_size <= kMaxRegsSize &&
         word_fits(at.frame_bp, at.frame_size) && word_fits(at.frame_ip, at.frame_size);
}

/// The registers that an ORC entry may count from, besides sp.
struct Registers {
  std::uint64_t bp = 0, r10 = 0, r13 = 0, di = 0, dx = 0;
};

/// One walk. Follows arch/x86/kernel/unwind_orc.c; names of its state are given where ours differ.
class Walk {
 public:
  Walk(std::span<const StackArea> stacks, const VirtualMemory& memory, const OrcTables& orc,
       const UnwindLayout& layout)
      : stacks_(stacks.first(std::min(stacks.size(), kMaxStacks))),
        memory_(memory),
        orc_(orc),
        layout_(layout) {}

  Trace run(const UnwindStart& start);

 private:
  bool visit();  // one frame; false when it was the last
  bool step(const OrcEntry& entry);
  std::optional<std::uint64_t> caller_sp(const OrcEntry& entry);
  std::optional<std::uint64_t> register_value(OrcRegister number);
  bool load_frame(OrcType type, std::uint64_t at);
  bool load_registers(std::uint64_t at);
  bool load_interrupt_frame(std::uint64_t at);
  bool load_bp(const OrcEntry& entry, std::uint64_t frame_sp);

  bool enter(GuestVirtAddr address, std::uint64_t length);
  bool read_stack(std::uint64_t address, std::span<std::byte> into);
  std::optional<std::uint64_t> read_word(std::uint64_t address);
  bool list();
  bool trampoline() const;
  bool at_end() const;

  bool stop(Unreliable why) {
    why_ = why;
    return false;
  }

  std::span<const StackArea> stacks_;
  const VirtualMemory& memory_;
  const OrcTables& orc_;
  const UnwindLayout& layout_;

  std::array<Frame, kMaxFrames> frames_{};
  std::size_t count_ = 0;
  Unreliable why_ = Unreliable::none;

  const StackArea* stack_ = nullptr;
  std::uint64_t entered_ = 0;  // a bit for each of stacks_
  std::uint64_t ip_ = 0, sp_ = 0, bp_ = 0;
  bool exact_ = false;  // `signal`
  bool user_ = false;
  std::optional<Registers> registers_;  // `regs` if full, else `prev_regs`
};

/// Makes the stack that holds these bytes the current one; each can be entered once.
bool Walk::enter(GuestVirtAddr address, std::uint64_t length) {
  if (stack_ != nullptr && stack_->range.holds(address, length)) {
    return true;
  }
  for (std::size_t at = 0; at < stacks_.size(); ++at) {
    const std::uint64_t bit = std::uint64_t{1} << at;
    if ((entered_ & bit) == 0 && stacks_[at].range.holds(address, length)) {
      entered_ |= bit;
      stack_ = &stacks_[at];
      return true;
    }
  }
  return false;
}

bool Walk::read_stack(std::uint64_t address, std::span<std::byte> into) {
  if (!enter(GuestVirtAddr(address), into.size())) {
    return stop(Unreliable::bad_stack);
  }
  if (!memory_.read(GuestVirtAddr(address), into)) {
    return stop(Unreliable::unreadable);
  }
  return true;
}

std::optional<std::uint64_t> Walk::read_word(std::uint64_t address) {
  std::array<std::byte, kWord> bytes{};
  if (!read_stack(address, bytes)) {
    return std::nullopt;
  }
  return word_at(bytes, 0);
}

bool Walk::list() {
  if (count_ == frames_.size()) {
    return stop(Unreliable::too_long);
  }
  frames_.at(count_++) = {GuestVirtAddr(ip_), exact_,
                          stack_ != nullptr ? stack_->kind : StackKind::task};
  return true;
}

bool Walk::trampoline() const {
  return std::ranges::any_of(
      layout_.trampolines, [&](const VirtRange& one) { return one.holds(GuestVirtAddr(ip_), 1); });
}

/// Whether nothing is left on the task's stack but the struct pt_regs that every one begins with.
bool Walk::at_end() const {
  return stack_->kind == StackKind::task && stack_->range.end().value() - sp_ <= layout_.regs_size;
}

std::optional<std::uint64_t> Walk::register_value(OrcRegister number) {
  if (registers_) {
    switch (number) {
      case OrcRegister::r10:
        return registers_->r10;
      case OrcRegister::r13:
        return registers_->r13;
      case OrcRegister::di:
        return registers_->di;
      case OrcRegister::dx:
        return registers_->dx;
      default:
        break;
    }
  }
  stop(Unreliable::undefined);
  return std::nullopt;
}

/// Where the stack pointer was before the frame was made; for saved registers, where these lie.
std::optional<std::uint64_t> Walk::caller_sp(const OrcEntry& entry) {
  switch (entry.sp_register) {
    case OrcRegister::sp:
      return moved(sp_, entry.sp_offset);
    case OrcRegister::bp:
      return moved(bp_, entry.sp_offset);
    case OrcRegister::bp_indirect:
      return read_word(moved(bp_, entry.sp_offset));
    case OrcRegister::sp_indirect: {
      // Here the offset is added after the look at the stack, unlike above.
      const auto value = read_word(sp_);
      return value ? std::optional(moved(*value, entry.sp_offset)) : std::nullopt;
    }
    default:
      // The offset plays no part, as in the kernel.
      return register_value(entry.sp_register);
  }
}

bool Walk::load_registers(std::uint64_t at) {
  std::array<std::byte, kMaxRegsSize> buffer;  // NOLINT: filled as far as it is used
  const auto bytes = std::span(buffer).first(layout_.regs_size);
  if (!read_stack(at, bytes)) {
    return false;
  }
  ip_ = word_at(bytes, layout_.ip);
  sp_ = word_at(bytes, layout_.sp);
  user_ = (word_at(bytes, layout_.cs) & 3U) != 0;
  registers_ = {.bp = word_at(bytes, layout_.bp),
                .r10 = word_at(bytes, layout_.r10),
                .r13 = word_at(bytes, layout_.r13),
                .di = word_at(bytes, layout_.di),
                .dx = word_at(bytes, layout_.dx)};
  return true;
}

/// What the CPU itself pushes: the end of struct pt_regs from ip on. Registers of the frame before,
/// if it had them all, are still what they were.
bool Walk::load_interrupt_frame(std::uint64_t at) {
  std::array<std::byte, kMaxRegsSize> buffer;  // NOLINT: filled as far as it is used
  const auto bytes = std::span(buffer).first(layout_.regs_size - layout_.ip);
  if (!read_stack(at, bytes)) {
    return false;
  }
  ip_ = word_at(bytes, 0);
  sp_ = word_at(bytes, layout_.sp - layout_.ip);
  user_ = (word_at(bytes, layout_.cs - layout_.ip) & 3U) != 0;
  return true;
}

bool Walk::load_frame(OrcType type, std::uint64_t at) {
  if (type == OrcType::regs || type == OrcType::regs_partial) {
    return type == OrcType::regs ? load_registers(at) : load_interrupt_frame(at);
  }
  const auto return_address = read_word(at - kWord);
  if (!return_address) {
    return false;
  }
  ip_ = *return_address;
  sp_ = at;
  registers_.reset();
  return true;
}

bool Walk::load_bp(const OrcEntry& entry, std::uint64_t frame_sp) {
  std::optional<std::uint64_t> saved;
  switch (entry.bp_register) {
    case OrcRegister::undefined:
      bp_ = registers_ ? registers_->bp : bp_;
      return true;
    case OrcRegister::prev_sp:
      saved = read_word(moved(frame_sp, entry.bp_offset));
      break;
    case OrcRegister::bp:
      saved = read_word(moved(bp_, entry.bp_offset));
      break;
    default:
      return stop(Unreliable::undefined);
  }
  bp_ = saved.value_or(0);
  return saved.has_value();
}

/// From a frame to its caller's.
bool Walk::step(const OrcEntry& entry) {
  const StackArea* stack_before = stack_;
  const std::uint64_t sp_before = sp_;
  exact_ = entry.signal;
  const auto frame_sp = caller_sp(entry);
  if (!frame_sp || !load_frame(entry.type, *frame_sp) || !load_bp(entry, *frame_sp)) {
    return false;
  }
  // Registers may well hold the pointer to another stack, at any address. One at the very end of
  // this stack belongs to it: all frames have been popped.
  const VirtRange& range = stack_->range;
  const bool here = GuestVirtAddr(sp_) >= range.start() && GuestVirtAddr(sp_) <= range.end();
  if (stack_ == stack_before && here && sp_ <= sp_before) {
    return stop(Unreliable::bad_stack);
  }
  return true;
}

bool Walk::visit() {
  if (user_) {
    return false;
  }
  if (trampoline()) {
    return list() && stop(Unreliable::trampoline);
  }
  // A call that never returns may be the last of its function: its own entry counts, not that of
  // what lies behind it.
  const GuestVirtAddr looked_up(exact_ ? ip_ : ip_ - 1);
  const auto entry = orc_.find(looked_up);
  if (!entry && (ip_ == 0 || !orc_.covers(looked_up))) {
    return stop(Unreliable::bad_address);
  }
  if (!list()) {
    return false;
  }
  if (!entry) {
    return stop(Unreliable::no_orc);
  }
  if (stack_ == nullptr) {
    return stop(Unreliable::bad_stack);
  }
  if (entry->type == OrcType::undefined) {
    return stop(Unreliable::undefined);
  }
  if (entry->type == OrcType::empty) {
    // A vCPU may have been stopped in a retpoline, whose caller's frames are all still there.
    return at_end() ? false : stop(Unreliable::undefined);
  }
  return entry->type != OrcType::end_of_stack && step(*entry);
}

Trace Walk::run(const UnwindStart& start) {
  ip_ = start.ip.value();
  sp_ = start.sp.value();
  bp_ = start.bp;
  exact_ = start.exact;
  if (start.exact) {
    registers_ = {start.bp, start.r10, start.r13, start.di, start.dx};
  }
  enter(start.sp, 1);  // if there is none, the first frame says so
  while (visit()) {
  }
  Trace trace;
  trace.frames.assign(frames_.begin(), frames_.begin() + static_cast<std::ptrdiff_t>(count_));
  trace.unreliable = why_;
  return trace;
}

}  // namespace

Result<UnwindLayout> UnwindLayout::probe(const Types& types) {
  UnwindLayout layout;
  struct Wanted {
    std::uint64_t* into;
    std::string_view type, member;
  };
  const auto wanted =
      std::to_array<Wanted>({{&layout.ip, "pt_regs", "ip"},
                             {&layout.sp, "pt_regs", "sp"},
                             {&layout.bp, "pt_regs", "bp"},
                             {&layout.cs, "pt_regs", "cs"},
                             {&layout.flags, "pt_regs", "flags"},
                             {&layout.r10, "pt_regs", "r10"},
                             {&layout.r13, "pt_regs", "r13"},
                             {&layout.di, "pt_regs", "di"},
                             {&layout.dx, "pt_regs", "dx"},
                             {&layout.frame_bp, "inactive_task_frame", "bp"},
                             {&layout.frame_ip, "inactive_task_frame", "ret_addr"}});
  for (const Wanted& one : wanted) {
    const auto member = types.member(one.type, one.member);
    if (!member) {
      return std::unexpected(member.error());
    }
    *one.into = member->offset();
  }
  const auto regs_size = types.size_of("pt_regs");
  const auto frame_size = types.size_of("inactive_task_frame");
  if (!regs_size || !frame_size) {
    return std::unexpected(!regs_size ? regs_size.error() : frame_size.error());
  }
  layout.regs_size = *regs_size;
  layout.frame_size = *frame_size;
  if (!usable(layout)) {
    return fail(Errc::corrupt, "struct pt_regs or struct inactive_task_frame is not as known here");
  }
  return layout;
}

Result<UnwindStart> start_of_sleeper(const VirtualMemory& memory, GuestVirtAddr saved_sp,
                                     const UnwindLayout& layout) {
  if (!usable(layout)) {
    return fail(Errc::corrupt, "struct inactive_task_frame is not as known here");
  }
  const auto sp = saved_sp.plus(layout.frame_size);
  if (!sp) {
    return fail(Errc::out_of_range,
                fmt::format("no saved frame at {:#x}: it runs past 64 bits", saved_sp.value()));
  }
  std::array<std::byte, kMaxRegsSize> buffer;  // NOLINT: filled as far as it is used
  const auto bytes = std::span(buffer).first(layout.frame_size);
  if (auto done = memory.read(saved_sp, bytes); !done) {
    return std::unexpected(std::move(done).error().in_context("read a sleeping task's frame"));
  }
  UnwindStart start;
  start.ip = GuestVirtAddr(word_at(bytes, layout.frame_ip));
  start.sp = *sp;
  start.bp = word_at(bytes, layout.frame_bp);
  // A new task has made no call yet: its frame was written for it, and names where it begins.
  start.exact = start.ip == layout.fork_entry;
  return start;
}

std::string_view to_string(Unreliable why) {
  switch (why) {
    case Unreliable::none:
      return "none";
    case Unreliable::no_orc:
      return "no-orc";
    case Unreliable::undefined:
      return "undefined";
    case Unreliable::bad_address:
      return "bad-address";
    case Unreliable::bad_stack:
      return "bad-stack";
    case Unreliable::unreadable:
      return "unreadable";
    case Unreliable::trampoline:
      return "trampoline";
    case Unreliable::too_long:
      return "too-long";
    case Unreliable::running:
      return "running";
    case Unreliable::no_stack:
      return "no-stack";
    case Unreliable::unknown_format:
      return "unknown-format";
  }
  return "unknown";
}

std::string_view describe(Unreliable why) {
  switch (why) {
    case Unreliable::none:
      return "every frame is accounted for";
    case Unreliable::no_orc:
      return "the kernel has no unwind information for an address on the stack";
    case Unreliable::undefined:
      return "the kernel's unwind information does not say how to leave a frame";
    case Unreliable::bad_address:
      return "a return address lies outside of the kernel's known code";
    case Unreliable::bad_stack:
      return "a frame lies outside of its stack or does not lead towards its end";
    case Unreliable::unreadable:
      return "the stack's memory could not be read";
    case Unreliable::trampoline:
      return "a return probe or the function graph tracer has replaced a return address";
    case Unreliable::too_long:
      return "the stack has more frames than the kernel would look at";
    case Unreliable::running:
      return "the task ran while its stack was read";
    case Unreliable::no_stack:
      return "the task has no stack any more";
    case Unreliable::unknown_format:
      return "the format of this kernel's unwind information is not known";
  }
  return "unknown";
}

Trace unwind(const UnwindStart& start, std::span<const StackArea> stacks,
             const VirtualMemory& memory, const OrcTables& orc, const UnwindLayout& layout) {
  if (!usable(layout)) {
    return {{}, Unreliable::unknown_format};
  }
  return Walk(stacks, memory, orc, layout).run(start);
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/kernel_log.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/list_walk.h"
#include "introspect/kernel/struct_copy.h"

// The ring (kernel/printk/printk_ringbuffer.c, Linux 5.10 on): descriptors and infos, 2^count_bits
// of each, and a ring of text. A record has a number that only rises (seq) and a descriptor with an
// id; both give the same index in the rings. A descriptor's state_var holds its id and, in the top
// two bits, its state. Its text is a block of the text ring: the id again, then the bytes; told by
// logical positions (lpos), which only rise and whose low size_bits are the index.

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kMaxRing = std::uint64_t{64} << 20U;
constexpr std::uint64_t kIdMask = (std::uint64_t{1} << 62U) - 1;
constexpr std::uint64_t kChunk = 256;
constexpr std::uint64_t kBlockHeader = sizeof(std::uint64_t);
/// An lpos of a record without text; one for which there was no room has another odd number.
constexpr std::uint64_t kEmptyLpos = 3;

enum State : std::uint64_t { kReserved = 0, kCommitted = 1, kFinalized = 2, kReusable = 3 };

/// The ring as its head says it is, at one moment.
struct Ring {
  std::uint64_t count = 0;  // a power of two
  GuestVirtAddr descs, infos, data;
  std::uint64_t data_bits = 0;
  std::uint64_t first_id = 0;  // of the record first_seq
  std::uint64_t first_seq = 0, end_seq = 0;

  std::uint64_t index(std::uint64_t seq) const { return id(seq) & (count - 1); }
  std::uint64_t id(std::uint64_t seq) const { return (first_id + (seq - first_seq)) & kIdMask; }
  std::uint64_t data_size() const { return std::uint64_t{1} << data_bits; }
};

/// What became of one record.
enum class Fate : std::uint8_t { readable, lost, unfinished };

/// A record whose text is still to be read.
struct Pending {
  std::uint64_t seq = 0;
  Fate fate{};
  std::uint64_t state_var = 0;
  LogRecord record;
  GuestVirtAddr block;           // nothing to read when `bytes` is empty
  std::vector<std::byte> bytes;  // the block's id and text
};

void append_text(std::string& text, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    const auto letter = static_cast<unsigned char>(byte);
    if ((letter >= ' ' && letter <= '~') || letter == '\n' || letter == '\t') {
      text.push_back(static_cast<char>(letter));
    } else {
      text += fmt::format("\\x{:02x}", letter);
    }
  }
}

std::uint64_t bits_at(FieldView fields, std::uint64_t bit, std::uint64_t count) {
  const std::uint64_t word = fields.get<std::uint8_t>(bit / 8) |
                             std::uint64_t{fields.get<std::uint8_t>(bit / 8 + 1)} << 8U;
  return count > 8 ? 0 : (word >> (bit % 8)) & ((std::uint64_t{1} << count) - 1);
}

/// Where in the text ring a block lies: its index and length, its id included.
std::optional<std::pair<std::uint64_t, std::uint64_t>> block_place(const Ring& ring,
                                                                   std::uint64_t begin,
                                                                   std::uint64_t next) {
  const std::uint64_t size = ring.data_size();
  const auto lap = [&ring](std::uint64_t lpos) { return lpos >> ring.data_bits; };
  const std::uint64_t length = next - begin;
  if (begin % kBlockHeader != 0 || length == 0) {
    return std::nullopt;
  }
  if (length <= size && lap(begin) == lap(next - 1)) {
    return std::pair(begin & (size - 1), length);
  }
  // One that would not fit before the ring's end lies at its start, wholly.
  if (lap(begin + size) == lap(next)) {
    return std::pair(std::uint64_t{0}, next & (size - 1));
  }
  return std::nullopt;
}

class Reader {
 public:
  Reader(const VirtualMemory& memory, const LogLayout& layout)
      : memory_(&memory), layout_(&layout) {}

  Result<KernelLog> run(std::uint64_t from, std::size_t max) {
    if (auto done = read_ring(); !done) {
      return std::unexpected(std::move(done).error());
    }
    log_.first_sequence = ring_.first_seq;
    const std::uint64_t newest = ring_.end_seq - std::min<std::uint64_t>(max, ring_.end_seq);
    std::uint64_t seq = std::clamp(from, ring_.first_seq, ring_.end_seq);
    log_.lost = seq > from ? seq - from : 0;
    seq = std::max(seq, newest);
    log_.next_sequence = seq;
    while (log_.next_sequence < ring_.end_seq) {
      const auto more = read_chunk(log_.next_sequence);
      if (!more) {
        return std::unexpected(more.error());
      }
      if (!*more) {
        break;
      }
    }
    return std::move(log_);
  }

 private:
  Result<void> read_ring() {
    const auto prb = read_pointer(*memory_, layout_->prb);
    if (!prb) {
      return std::unexpected(prb.error());
    }
    const std::uint64_t end =
        std::max(
            {layout_->desc_ring + std::max({layout_->count_bits, layout_->descs, layout_->infos,
                                            layout_->head_id, layout_->tail_id}),
             layout_->text_data_ring + std::max(layout_->size_bits, layout_->data)}) +
        sizeof(std::uint64_t);
    const auto copy = StructCopy::read(*memory_, *prb, std::min(end, kMaxStructSize));
    if (!copy) {
      return std::unexpected(copy.error());
    }
    const FieldView fields = copy->fields();
    const auto count_bits = fields.get<std::uint32_t>(layout_->desc_ring + layout_->count_bits);
    const auto data_bits = fields.get<std::uint32_t>(layout_->text_data_ring + layout_->size_bits);
    if (count_bits == 0 || count_bits > 24 || data_bits < 4 || data_bits > 28 ||
        (std::uint64_t{1} << data_bits) +
                (layout_->desc_size + layout_->info_size) * (std::uint64_t{1} << count_bits) >
            kMaxRing) {
      return fail(Errc::corrupt, fmt::format("the log would have 2^{} records and 2^{} bytes",
                                             count_bits, data_bits));
    }
    ring_.count = std::uint64_t{1} << count_bits;
    ring_.data_bits = data_bits;
    ring_.descs = fields.pointer(layout_->desc_ring + layout_->descs);
    ring_.infos = fields.pointer(layout_->desc_ring + layout_->infos);
    ring_.data = fields.pointer(layout_->text_data_ring + layout_->data);
    return find_ends(fields.get<std::uint64_t>(layout_->desc_ring + layout_->tail_id) & kIdMask,
                     fields.get<std::uint64_t>(layout_->desc_ring + layout_->head_id) & kIdMask);
  }

  Result<void> find_ends(std::uint64_t tail, std::uint64_t head) {
    const std::uint64_t used = ((head - tail) & kIdMask) + 1;
    if (used > ring_.count) {
      return fail(Errc::torn, fmt::format("{} of {} records would be used", used, ring_.count));
    }
    const std::uint64_t index = tail & (ring_.count - 1);
    const auto seq = read_value<std::uint64_t>(
        *memory_, member_at(ring_.infos, index * layout_->info_size + layout_->seq));
    if (!seq) {
      return std::unexpected(seq.error());
    }
    // A fresh ring begins with a descriptor that is no record's: its number does not fit.
    const bool blank = (*seq & (ring_.count - 1)) != index;
    ring_.first_id = (tail + (blank ? 1 : 0)) & kIdMask;
    ring_.first_seq = blank ? 0 : *seq;
    ring_.end_seq = ring_.first_seq + used - (blank ? 1 : 0);
    if (ring_.end_seq < ring_.first_seq) {
      return fail(Errc::corrupt, fmt::format("the oldest record has number {}", *seq));
    }
    return {};
  }

  /// Reads on from record `seq`, up to kChunk of them. Whether to go on after that.
  Result<bool> read_chunk(std::uint64_t seq) {
    const std::uint64_t index = ring_.index(seq);
    const std::uint64_t count = std::min({kChunk, ring_.end_seq - seq, ring_.count - index});
    std::vector<std::byte> descs(count * layout_->desc_size);
    std::vector<std::byte> infos(count * layout_->info_size);
    const GuestVirtAddr descs_at = member_at(ring_.descs, index * layout_->desc_size);
    std::array<VirtRead, 2> reads = {
        VirtRead{descs_at, descs},
        VirtRead{member_at(ring_.infos, index * layout_->info_size), infos}};
    memory_->read_many(reads);
    if (!reads[0].done || !reads[1].done) {
      return fail(Errc::out_of_range, "the log's descriptors cannot be read");
    }
    std::vector<Pending> pending;
    for (std::uint64_t at = 0; at < count; ++at) {
      Pending one =
          judge(seq + at, desc_at(descs, at),
                FieldView(std::span(infos).subspan(at * layout_->info_size, layout_->info_size)));
      if (one.fate == Fate::unfinished) {
        break;
      }
      pending.push_back(std::move(one));
    }
    read_texts(pending);
    // What is overwritten first gets a new state: what still has its own was read whole.
    if (auto done = memory_->read(descs_at, descs); !done) {
      return std::unexpected(std::move(done).error());
    }
    for (std::size_t at = 0; at < pending.size(); ++at) {
      if (desc_at(descs, at).get<std::uint64_t>(layout_->state_var) != pending[at].state_var) {
        pending[at].fate = Fate::lost;
      }
      if (auto done = finish(pending[at]); !done) {
        return std::unexpected(std::move(done).error());
      }
    }
    log_.next_sequence = seq + pending.size();
    return pending.size() == count;
  }

  FieldView desc_at(std::span<const std::byte> descs, std::size_t at) const {
    return FieldView(descs.subspan(at * layout_->desc_size, layout_->desc_size));
  }

  /// What the state of a descriptor says of record `seq`.
  Fate fate_of(std::uint64_t seq, std::uint64_t state_var) const {
    const std::uint64_t expected = ring_.id(seq);
    const std::uint64_t id = state_var & kIdMask;
    if (id != expected) {
      // Either nobody has written there since the lap before, or somebody has a lap later.
      const bool older = ((expected - id) & kIdMask) <= kIdMask / 2;
      return older || state_var == 0 ? Fate::unfinished : Fate::lost;
    }
    switch (state_var >> 62U) {
      case kFinalized:
        return Fate::readable;
      case kReusable:
        return Fate::lost;
      default:
        return Fate::unfinished;
    }
  }

  Pending judge(std::uint64_t seq, FieldView desc, FieldView info) const {
    Pending one;
    one.seq = seq;
    one.state_var = desc.get<std::uint64_t>(layout_->state_var);
    one.fate = fate_of(seq, one.state_var);
    if (one.fate != Fate::readable) {
      return one;
    }
    if (info.get<std::uint64_t>(layout_->seq) != seq) {
      one.fate = Fate::lost;
      return one;
    }
    one.record.sequence = seq;
    one.record.time_ns = info.get<std::uint64_t>(layout_->ts_nsec);
    one.record.facility = info.get<std::uint8_t>(layout_->facility);
    one.record.level =
        static_cast<std::uint8_t>(bits_at(info, layout_->level_bit, layout_->level_bits));
    const auto begin = desc.get<std::uint64_t>(layout_->text_blk_lpos + layout_->lpos_begin);
    const auto next = desc.get<std::uint64_t>(layout_->text_blk_lpos + layout_->lpos_next);
    if (begin % 2 != 0 && next % 2 != 0) {
      one.fate = begin == kEmptyLpos && next == kEmptyLpos ? Fate::readable : Fate::lost;
      return one;
    }
    const auto place = block_place(ring_, begin, next);
    if (!place || place->second <= kBlockHeader) {
      one.fate = Fate::lost;
      return one;
    }
    one.block = member_at(ring_.data, place->first);
    one.bytes.resize(kBlockHeader +
                     std::min<std::uint64_t>(info.get<std::uint16_t>(layout_->text_len),
                                             place->second - kBlockHeader));
    return one;
  }

  void read_texts(std::vector<Pending>& pending) const {
    std::vector<VirtRead> reads;
    std::vector<Pending*> owners;
    for (Pending& one : pending) {
      if (!one.bytes.empty()) {
        reads.push_back({one.block, one.bytes});
        owners.push_back(&one);
      }
    }
    memory_->read_many(reads);
    for (std::size_t at = 0; at < reads.size(); ++at) {
      const auto id = FieldView(owners[at]->bytes).get<std::uint64_t>(0);
      if (!reads[at].done || id != (owners[at]->state_var & kIdMask)) {
        owners[at]->fate = Fate::lost;
      }
    }
  }

  /// Puts one record into the answer, or counts it as lost.
  Result<void> finish(Pending& one) {
    if (one.fate != Fate::readable) {
      ++log_.lost;
      return {};
    }
    if (!one.bytes.empty()) {
      const auto text = std::span<const std::byte>(one.bytes).subspan(kBlockHeader);
      // Blocks never overlap, so all texts together fit into the ring.
      text_bytes_ += text.size();
      if (text_bytes_ > ring_.data_size()) {
        return fail(Errc::corrupt, "the log's records overlap each other");
      }
      append_text(one.record.text, text);
    }
    log_.records.push_back(std::move(one.record));
    return {};
  }

  const VirtualMemory* memory_;
  const LogLayout* layout_;
  Ring ring_;
  KernelLog log_;
  std::uint64_t text_bytes_ = 0;
};

}  // namespace

Result<LogLayout> LogLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  LogLayout layout;
  layout.prb = probe.symbol("prb");
  layout.desc_ring = probe.offset("printk_ringbuffer", "desc_ring");
  layout.text_data_ring = probe.offset("printk_ringbuffer", "text_data_ring");
  layout.count_bits = probe.offset("prb_desc_ring", "count_bits");
  layout.descs = probe.offset("prb_desc_ring", "descs");
  layout.infos = probe.offset("prb_desc_ring", "infos");
  layout.head_id = probe.offset("prb_desc_ring", "head_id");
  layout.tail_id = probe.offset("prb_desc_ring", "tail_id");
  layout.desc_size = probe.size_of("prb_desc");
  layout.state_var = probe.offset("prb_desc", "state_var");
  layout.text_blk_lpos = probe.offset("prb_desc", "text_blk_lpos");
  layout.lpos_begin = probe.offset("prb_data_blk_lpos", "begin");
  layout.lpos_next = probe.offset("prb_data_blk_lpos", "next");
  layout.info_size = probe.size_of("printk_info");
  layout.seq = probe.offset("printk_info", "seq");
  layout.ts_nsec = probe.offset("printk_info", "ts_nsec");
  layout.text_len = probe.offset("printk_info", "text_len");
  layout.facility = probe.offset("printk_info", "facility");
  const Member level = probe.member("printk_info", "level");
  layout.level_bit = level.bit_offset;
  layout.level_bits = level.bit_size;
  layout.size_bits = probe.offset("prb_data_ring", "size_bits");
  layout.data = probe.offset("prb_data_ring", "data");
  return std::move(probe).finish(layout);
}

Result<KernelLog> read_kernel_log(const VirtualMemory& memory, const LogLayout& layout,
                                  std::uint64_t from, std::size_t max) {
  auto log = retry_torn([&] { return Reader(memory, layout).run(from, max); });
  if (!log) {
    return std::unexpected(std::move(log.error()).in_context("read the guest's kernel log"));
  }
  return log;
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/vcpu_registers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::size_t kMaxVcpus = 8192;

enum Field : std::uint8_t { rip, rsp, rbp, r10, r13, rdi, rdx, rfl, cs, gs, cr3, cr4, hlt, count };

constexpr unsigned bit(Field field) {
  return 1U << field;
}
constexpr unsigned kAll = bit(count) - 1;
constexpr unsigned kOnly64 = bit(r10) | bit(r13);

struct Name {
  std::string_view text;
  Field field;
};
/// QEMU prints the second form of a name for a vCPU in 16- or 32-bit code.
constexpr std::array kNames = {
    Name{"RIP", rip}, Name{"EIP", rip}, Name{"RSP", rsp}, Name{"ESP", rsp}, Name{"RBP", rbp},
    Name{"EBP", rbp}, Name{"R10", r10}, Name{"R13", r13}, Name{"RDI", rdi}, Name{"EDI", rdi},
    Name{"RDX", rdx}, Name{"EDX", rdx}, Name{"RFL", rfl}, Name{"EFL", rfl}, Name{"CS", cs},
    Name{"GS", gs},   Name{"CR3", cr3}, Name{"CR4", cr4}, Name{"HLT", hlt}};

/// One vCPU while its lines are read.
struct Block {
  std::uint32_t index = 0;
  unsigned seen = 0;
  bool is_64bit = false;
  std::array<std::uint64_t, count> values{};

  bool complete() const { return (seen | (is_64bit ? 0 : kOnly64)) == kAll; }

  introspect::VcpuRegisters registers() const {
    introspect::VcpuRegisters result;
    result.index = index;
    result.rip = introspect::GuestVirtAddr(values[rip]);
    result.rsp = introspect::GuestVirtAddr(values[rsp]);
    result.rbp = values[rbp];
    result.r10 = values[r10];
    result.r13 = values[r13];
    result.rdi = values[rdi];
    result.rdx = values[rdx];
    result.rflags = values[rfl];
    result.cr3 = values[cr3];
    result.cr4 = values[cr4];
    result.gs_base = values[gs];
    result.cs = static_cast<std::uint16_t>(values[cs]);
    result.halted = values[hlt] != 0;
    return result;
  }
};

void skip_spaces(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
}

/// Takes a number off the front; nothing when it does not fit or its end is not in sight (the text
/// may have been cut there).
std::optional<std::uint64_t> take_number(std::string_view& text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  const auto length = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || length == text.size() ||
      (text[length] != ' ' && text[length] != '\r' && text[length] != '\n')) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return value;
}

/// "NAME=VALUE" or "NAME =VALUE", as often as the line has it. A segment's values are its selector
/// and its base.
void read_line(std::string_view line, Block& block) {
  for (std::size_t equals = line.find('='); equals != std::string_view::npos;
       equals = line.find('=')) {
    std::string_view name = line.substr(0, equals);
    name = name.substr(0, name.find_last_not_of(' ') + 1);
    name.remove_prefix(name.find_last_of(' ') + 1);
    line.remove_prefix(equals + 1);
    const auto* known = std::ranges::find(kNames, name, &Name::text);
    if (known == kNames.end()) {
      continue;
    }
    auto value = take_number(line, 16);
    if (known->field == gs && value) {
      skip_spaces(line);
      value = take_number(line, 16);
    }
    if (!value || (known->field == cs && *value > UINT16_MAX)) {
      continue;
    }
    block.values[known->field] = *value;
    block.seen |= bit(known->field);
    block.is_64bit |= name == "RIP";
  }
}

std::optional<std::uint32_t> read_heading(std::string_view line) {
  constexpr std::string_view kHeading = "CPU#";
  if (!line.starts_with(kHeading)) {
    return std::nullopt;
  }
  line.remove_prefix(kHeading.size());
  const auto number = take_number(line, 10);
  return number && *number < kMaxVcpus ? std::optional(static_cast<std::uint32_t>(*number))
                                       : std::nullopt;
}

}  // namespace

std::vector<introspect::VcpuRegisters> parse_registers(std::string_view text) {
  std::vector<introspect::VcpuRegisters> vcpus;
  std::optional<Block> block;
  const auto finish = [&] {
    if (block && block->complete() && vcpus.size() < kMaxVcpus) {
      vcpus.push_back(block->registers());
    }
    block.reset();
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    if (line.starts_with("CPU#")) {
      finish();
      if (const auto index = read_heading(line)) {
        block = Block{.index = *index};
      }
    } else if (block) {
      read_line(line, *block);
    }
  }
  finish();
  return vcpus;
}

Result<std::vector<introspect::VcpuRegisters>> read_registers(Domain& domain,
                                                              const qmp::CallOptions& options) {
  auto monitor = domain.monitor();
  if (!monitor) {
    return std::unexpected(monitor.error());
  }
  auto reply = (*monitor)->execute("human-monitor-command", {{"command-line", "info registers -a"}},
                                   options);
  if (!reply) {
    return std::unexpected(
        from_qmp(reply.error()).in_context(fmt::format("{}: registers", domain.name())));
  }
  auto vcpus = parse_registers(reply->is_string() ? std::string_view(reply->get_string())
                                                  : std::string_view());
  if (vcpus.empty()) {
    return fail(Outcome::unreachable,
                fmt::format("{}: the monitor's registers name no vCPU", domain.name()));
  }
  return vcpus;
}

}  // namespace vpatch

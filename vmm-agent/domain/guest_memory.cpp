// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/guest_memory.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <system_error>
#include <utility>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "introspect/memory/composite_memory.h"
#include "introspect/memory/mapped_memory.h"
#include "introspect/memory/process_memory.h"

namespace vpatch {
namespace {

using introspect::FileRegion;
using introspect::GuestMemory;
using introspect::UniqueFd;

constexpr std::size_t kMaxRegions = 1024;

struct RamLine {
  std::string name;
  introspect::FileRegion region;
};

std::optional<std::uint64_t> hex(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

/// "  START-END (prio N, ram): NAME @OFFSET KVM", the offset being optional.
std::optional<RamLine> parse_ram_line(std::string_view line) {
  const std::size_t first = line.find_first_not_of(' ');
  const std::size_t dash = line.find('-');
  const std::size_t type = line.find(", ram): ");
  if (first == std::string_view::npos || dash == std::string_view::npos ||
      type == std::string_view::npos || dash < first) {
    return std::nullopt;
  }
  const auto start = hex(line.substr(first, dash - first));
  const auto last = hex(line.substr(dash + 1));
  const std::string_view rest = line.substr(type + std::string_view(", ram): ").size());
  const std::size_t name_end =
      std::min(rest.find_first_of(" \r"), rest.size());  // the monitor ends lines with "\r\n"
  std::uint64_t offset = 0;
  if (const std::size_t at = rest.find(" @"); at != std::string_view::npos) {
    const auto parsed = hex(rest.substr(at + 2));
    if (!parsed) {
      return std::nullopt;
    }
    offset = *parsed;
  }
  if (!start || !last || *last < *start || *last == UINT64_MAX ||
      offset > UINT64_MAX - (*last - *start + 1)) {
    return std::nullopt;
  }
  return RamLine{std::string(rest.substr(0, name_end)),
                 {introspect::GuestPhysAddr(*start), *last - *start + 1, offset}};
}

/// Runs a monitor command for people and returns its text.
Result<std::string> monitor_text(Domain& domain, const std::string& command,
                                 const qmp::CallOptions& options) {
  auto monitor = domain.monitor();
  if (!monitor) {
    return std::unexpected(monitor.error());
  }
  auto reply = (*monitor)->execute("human-monitor-command", {{"command-line", command}}, options);
  if (!reply) {
    return std::unexpected(from_qmp(reply.error()).in_context(command));
  }
  return reply->is_string() ? std::string(reply->get_string()) : std::string();
}

/// The names of the VM's memory backends; empty where the monitor does not tell.
std::vector<std::string> memory_backends(Domain& domain, const qmp::CallOptions& options) {
  std::vector<std::string> names;
  auto monitor = domain.monitor();
  const auto reply =
      monitor ? (*monitor)->execute("query-memdev", {}, options) : std::unexpected(qmp::Error{});
  const auto* list = reply ? reply->if_array() : nullptr;
  for (const auto& entry : list != nullptr ? *list : boost::json::array()) {
    const auto* object = entry.if_object();
    const auto* id = object != nullptr ? object->if_contains("id") : nullptr;
    if (id != nullptr && id->is_string()) {
      names.emplace_back(id->get_string());
    }
  }
  return names;
}

/// Where the VMM has its block of RAM mapped, from the monitor's `gpa2hva`:
/// "Host virtual address for 0x0 (pc.ram) is 0x7f..."
Result<std::uint64_t> host_address(Domain& domain, const RamBlock& block,
                                   const qmp::CallOptions& options) {
  const FileRegion& piece = block.pieces.front();
  auto text = monitor_text(domain, fmt::format("gpa2hva {:#x}", piece.start.value()), options);
  if (!text) {
    return std::unexpected(text.error());
  }
  constexpr std::string_view kMark = ") is 0x";
  const std::size_t mark = text->find(kMark);
  const auto address = mark == std::string::npos
                           ? std::nullopt
                           : hex(std::string_view(*text).substr(mark + kMark.size()));
  if (!address || *address < piece.file_offset) {
    return fail(Outcome::unreachable,
                fmt::format("the monitor does not tell where the VM's RAM {} lies", block.name));
  }
  return *address - piece.file_offset;
}

Result<std::string> read_maps(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/maps", pid);
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) {
    return fail(Outcome::unreachable, fmt::format("{} cannot be read", path),
                "Run vpatch as root on the host where the VM runs (it needs CAP_SYS_PTRACE).");
  }
  return text;
}

/// The VMM's own descriptor of the file behind a mapping, opened anew for reading.
std::optional<UniqueFd> open_backing(pid_t pid, const HostMapping& mapping) {
  std::error_code error;
  const std::filesystem::path folder = fmt::format("/proc/{}/fd", pid);
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    struct stat status{};
    if (stat(entry->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_ino != mapping.inode || major(status.st_dev) != mapping.device_major ||
        minor(status.st_dev) != mapping.device_minor) {
      continue;
    }
    UniqueFd fd(open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
    if (fd) {
      return fd;
    }
  }
  return std::nullopt;
}

Error unreadable(const introspect::Error& error) {
  return {Outcome::unreachable, error.what,
          error.code == introspect::Errc::permission
              ? "Run vpatch as root on the host where the VM runs (it needs CAP_SYS_PTRACE)."
              : ""};
}

template <class Memory>
Result<OpenedMemory> opened(introspect::Result<Memory> memory, MemoryBackend backend) {
  if (!memory) {
    return std::unexpected(unreadable(memory.error()));
  }
  return OpenedMemory{std::make_unique<Memory>(*std::move(memory)), backend, {}};
}

/// A block whose mapping is shared, through its file.
Result<OpenedMemory> open_shared(UniqueFd fd, const RamBlock& block, std::uint64_t file_offset) {
  std::vector<FileRegion> regions = block.pieces;
  for (FileRegion& region : regions) {
    region.file_offset += file_offset;
  }
  if (introspect::MappedMemory::mappable(fd.get())) {
    return opened(introspect::MappedMemory::create(std::move(fd), regions), MemoryBackend::mapped);
  }
  return opened(introspect::FileMemory::create(std::move(fd), std::move(regions)),
                MemoryBackend::file);
}

Result<OpenedMemory> open_block(Domain& domain, pid_t pid, const std::string& maps,
                                const RamBlock& block, const qmp::CallOptions& options) {
  const auto base = host_address(domain, block, options);
  if (!base) {
    return std::unexpected(base.error());
  }
  const auto mapping = find_mapping(maps, *base);
  if (mapping && mapping->shared && mapping->inode != 0) {
    if (auto fd = open_backing(pid, *mapping)) {
      return open_shared(*std::move(fd), block, mapping->offset + (*base - mapping->start));
    }
  }
  std::vector<introspect::ProcessRegion> regions;
  for (const FileRegion& piece : block.pieces) {
    regions.push_back({piece.start, piece.size, introspect::HostAddr(*base + piece.file_offset)});
  }
  return opened(introspect::ProcessMemory::create(pid, regions), MemoryBackend::process);
}

}  // namespace

std::uint64_t RamBlock::size() const {
  std::uint64_t end = 0;
  for (const FileRegion& piece : pieces) {
    end = std::max(end, piece.file_offset + piece.size);
  }
  return end;
}

bool has_ended(const UniqueFd& pidfd) {
  pollfd one{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return poll(&one, 1, 0) == 1;
}

std::string_view to_string(MemoryBackend backend) {
  switch (backend) {
    case MemoryBackend::mapped:
      return "mapped";
    case MemoryBackend::file:
      return "file";
    case MemoryBackend::process:
      return "process";
    case MemoryBackend::core:
      break;
  }
  return "core";
}

std::vector<RamBlock> parse_ram_layout(std::string_view mtree) {
  std::map<std::string, RamBlock, std::less<>> blocks;
  bool in_system_memory = false;
  std::size_t count = 0;
  while (!mtree.empty()) {
    const std::size_t end = std::min(mtree.find('\n'), mtree.size());
    const std::string_view line = mtree.substr(0, end);
    mtree.remove_prefix(std::min(end + 1, mtree.size()));
    if (line.starts_with("FlatView #")) {
      if (in_system_memory) {
        break;
      }
    } else if (line.find("AS \"memory\"") != std::string_view::npos) {
      in_system_memory = true;
    } else if (auto ram = in_system_memory ? parse_ram_line(line) : std::nullopt;
               ram && ++count <= kMaxRegions) {
      RamBlock& block = blocks[ram->name];
      block.name = ram->name;
      block.pieces.push_back(ram->region);
    }
  }
  std::vector<RamBlock> list;
  for (auto& [name, block] : blocks) {
    list.push_back(std::move(block));
  }
  return list;
}

std::vector<RamBlock> guest_ram(std::vector<RamBlock> blocks,
                                const std::vector<std::string>& backends) {
  std::vector<RamBlock> chosen;
  for (const RamBlock& block : blocks) {
    if (std::ranges::find(backends, block.name) != backends.end()) {
      chosen.push_back(block);
    }
  }
  if (chosen.empty() && !blocks.empty()) {
    chosen.push_back(*std::ranges::max_element(blocks, {}, &RamBlock::size));
  }
  return chosen;
}

std::optional<HostMapping> find_mapping(std::string_view maps, std::uint64_t address) {
  while (!maps.empty()) {
    const std::size_t end = std::min(maps.find('\n'), maps.size());
    std::string_view line = maps.substr(0, end);
    maps.remove_prefix(std::min(end + 1, maps.size()));
    // "START-END PERMS OFFSET DEVICE INODE PATH"
    const auto field = [&line](char until) {
      const std::size_t stop = std::min(line.find(until), line.size());
      const std::string_view word = line.substr(0, stop);
      line.remove_prefix(std::min(stop + 1, line.size()));
      return word;
    };
    const auto first = hex(field('-'));
    const auto past = hex(field(' '));
    const std::string_view permissions = field(' ');
    const auto offset = hex(field(' '));
    const auto device_major = hex(field(':'));
    const auto device_minor = hex(field(' '));
    const std::string_view inode = field(' ');
    if (!first || !past || !offset || !device_major || !device_minor || address < *first ||
        address >= *past) {
      continue;
    }
    std::uint64_t number = 0;
    std::from_chars(inode.data(), inode.data() + inode.size(), number);
    return HostMapping{
        *first, *past, *offset, *device_major, *device_minor, number, permissions.ends_with('s')};
  }
  return std::nullopt;
}

Result<OpenedMemory> open_guest_memory(Domain& domain, const qmp::CallOptions& options) {
  const auto mtree = monitor_text(domain, "info mtree -f", options);
  if (!mtree) {
    return std::unexpected(mtree.error());
  }
  const auto blocks = guest_ram(parse_ram_layout(*mtree), memory_backends(domain, options));
  if (blocks.empty()) {
    return fail(Outcome::unreachable, "the monitor shows no RAM of the VM");
  }
  const auto pid = domain.vmm_pid();
  if (!pid) {
    return std::unexpected(pid.error());
  }
  const auto maps = read_maps(*pid);
  if (!maps) {
    return std::unexpected(maps.error());
  }
  OpenedMemory all;
  all.vmm = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  if (!all.vmm) {
    return fail(Outcome::unreachable, fmt::format("the VM's process {} has ended", *pid));
  }
  std::vector<std::unique_ptr<GuestMemory>> parts;
  for (const RamBlock& block : blocks) {
    auto part = open_block(domain, *pid, *maps, block, options);
    if (!part) {
      return part;
    }
    all.backend = std::max(all.backend, part->backend);
    parts.push_back(std::move(part->memory));
  }
  if (parts.size() == 1) {
    all.memory = std::move(parts.front());
    return all;
  }
  auto composite = introspect::CompositeMemory::create(std::move(parts));
  if (!composite) {
    return std::unexpected(unreadable(composite.error()));
  }
  all.memory = std::make_unique<introspect::CompositeMemory>(*std::move(composite));
  return all;
}

}  // namespace vpatch

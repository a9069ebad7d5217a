// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/guest_ram.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace vpatch {
namespace {

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

std::uint64_t file_end(const std::vector<introspect::FileRegion>& regions) {
  std::uint64_t end = 0;
  for (const auto& region : regions) {
    end = std::max(end, region.file_offset + region.size);
  }
  return end;
}

/// The descriptor of the VMM that holds a memory file of at least `size` bytes, opened anew for
/// reading.
std::optional<introspect::UniqueFd> open_backing(pid_t pid, std::uint64_t size) {
  std::error_code error;
  const std::filesystem::path folder = fmt::format("/proc/{}/fd", pid);
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unreadable;
    const std::string link = std::filesystem::read_symlink(entry->path(), unreadable).string();
    const bool is_memory = link.starts_with("/memfd:") || link.starts_with("/dev/shm/") ||
                           link.starts_with("/dev/hugepages/") ||
                           link.find("/libvirt/qemu/ram/") != std::string::npos;
    if (unreadable || !is_memory) {
      continue;
    }
    introspect::UniqueFd fd(open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status{};
    if (fd && fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode) &&
        static_cast<std::uint64_t>(status.st_size) >= size) {
      return fd;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<introspect::FileRegion> parse_ram_layout(std::string_view mtree) {
  std::map<std::string, std::vector<introspect::FileRegion>, std::less<>> blocks;
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
      blocks[ram->name].push_back(ram->region);
    }
  }
  const auto size_of = [](const auto& block) { return file_end(block.second); };
  const auto largest = std::ranges::max_element(blocks, {}, size_of);
  return largest == blocks.end() ? std::vector<introspect::FileRegion>() : largest->second;
}

Result<introspect::FileMemory> open_guest_ram(Domain& domain, const qmp::CallOptions& options) {
  auto monitor = domain.monitor();
  if (!monitor) {
    return std::unexpected(monitor.error());
  }
  auto reply =
      (*monitor)->execute("human-monitor-command", {{"command-line", "info mtree -f"}}, options);
  if (!reply) {
    return std::unexpected(from_qmp(reply.error()).in_context("RAM layout"));
  }
  auto regions = parse_ram_layout(reply->is_string() ? std::string_view(reply->get_string())
                                                     : std::string_view());
  auto pid = domain.vmm_pid();
  if (!pid) {
    return std::unexpected(pid.error());
  }
  auto fd = regions.empty() ? std::nullopt : open_backing(*pid, file_end(regions));
  if (!fd) {
    return fail(Outcome::unreachable,
                fmt::format("the RAM of process {} is not a shared file that can be opened", *pid),
                "Give the domain shared memory: <memoryBacking><source type='memfd'/><access "
                "mode='shared'/></memoryBacking>, "
                "and run vpatch as root on its host.");
  }
  auto memory = introspect::FileMemory::create(*std::move(fd), std::move(regions));
  if (!memory) {
    return fail(Outcome::unreachable, memory.error().what);
  }
  return *std::move(memory);
}

}  // namespace vpatch

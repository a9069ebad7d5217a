// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/bench_guest.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "vmm-agent/domain/guest_memory.h"

namespace vpatch::bench {
namespace {

const qmp::CallOptions kOptions{std::chrono::seconds(120), {}};

boost::json::value execute(Domain& domain, const std::string& command,
                           boost::json::object arguments) {
  auto* const monitor = must(domain.monitor());
  return must(monitor->execute(command, std::move(arguments), kOptions));
}

std::string monitor_text(Domain& domain, const std::string& line) {
  const auto reply = execute(domain, "human-monitor-command", {{"command-line", line}});
  return std::string(reply.as_string());
}

std::string descriptor_of(pid_t pid, std::uint64_t inode) {
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid))) {
    struct stat status{};
    if (stat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_ino == inode) {
      return entry.path();
    }
  }
  throw std::runtime_error("QEMU has no descriptor of its guest's memory");
}

}  // namespace

BenchGuest::BenchGuest(const std::string& kernel, unsigned memory_mib)
    : memory_mib_(memory_mib),
      vm_(fmt::format("vpatch-bench-{}-{}", kernel, memory_mib),
          {"--memory", std::to_string(memory_mib)}) {
  find_memory();
}

void BenchGuest::find_memory() {
  const auto domain = must(open_domain(vm_.target(), kOptions));
  pid_ = must(domain->vmm_pid());
  const auto blocks = guest_ram(parse_ram_layout(monitor_text(*domain, "info mtree -f")), {"ram"});
  const RamBlock& ram = blocks.at(0);
  const introspect::FileRegion first = ram.pieces.at(0);
  const std::string answer =
      monitor_text(*domain, fmt::format("gpa2hva {:#x}", first.start.value()));
  const std::size_t mark = answer.find(") is ");
  if (mark == std::string::npos) {
    throw std::runtime_error("the monitor says: " + answer);
  }
  const std::uint64_t base = std::stoull(answer.substr(mark + 5), nullptr, 16) - first.file_offset;

  std::ifstream maps(fmt::format("/proc/{}/maps", pid_));
  const std::string text{std::istreambuf_iterator<char>(maps), {}};
  const auto mapping = find_mapping(text, base);
  if (!mapping || !mapping->shared) {
    throw std::runtime_error("the guest's memory is no shared mapping of QEMU");
  }
  backing_ = descriptor_of(pid_, mapping->inode);
  for (const auto& piece : ram.pieces) {
    in_process_.push_back(
        {piece.start, piece.size, introspect::HostAddr(base + piece.file_offset)});
    in_file_.push_back(
        {piece.start, piece.size, piece.file_offset + mapping->offset + (base - mapping->start)});
  }
}

introspect::MappedMemory BenchGuest::map() const {
  introspect::UniqueFd fd(open(backing_.c_str(), O_RDONLY | O_CLOEXEC));
  return must(introspect::MappedMemory::create(std::move(fd), in_file_));
}

introspect::ProcessMemory BenchGuest::attach_process() const {
  return must(introspect::ProcessMemory::create(pid_, in_process_));
}

void BenchGuest::touch(unsigned mib) const {
  vm_.guest(
      fmt::format("for d in /tmp /run; do dd if=/dev/zero of=$d/touch bs=1M count={} 2>/dev/null "
                  "|| true; done; rm -f /tmp/touch /run/touch",
                  mib / 2));
}

void BenchGuest::touch_all() const {
  const std::string free = vm_.guest("awk '/^MemFree/ { print int($2 / 1024) }' /proc/meminfo");
  constexpr unsigned kSpare = 24;  // what the guest needs to go on meanwhile
  const auto mib = static_cast<unsigned>(std::stoul(free));
  if (mib > kSpare) {
    touch(mib - kSpare);
  }
}

std::uint64_t BenchGuest::populated_mib() const {
  const auto memory = map();
  std::uint64_t bytes = 0;
  introspect::GuestPhysAddr from(0);
  for (;;) {
    const auto range = must(memory.next_populated(from));
    if (!range) {
      return bytes >> 20U;
    }
    bytes += range->size();
    from = range->end();
  }
}

void BenchGuest::add_tasks(std::size_t count) const {
  vm_.guest("rm -f /run/guest_tasks /run/made");  // an earlier one runs, and cannot be written to
  vm_.deliver(VPATCH_GUEST_TASKS, "/run/guest_tasks");
  vm_.guest(
      fmt::format("cd /run; chmod +x guest_tasks; "
                  "./guest_tasks {} /run/made </dev/null >/dev/null 2>&1 &",
                  count));
  const auto made = [this] {
    return vm_.guest("for i in 1 2 3 4 5; do [ -e /run/made ] && echo yes && break; sleep 1; done")
        .starts_with("yes");
  };
  if (!test::eventually(made, std::chrono::seconds(600))) {
    throw std::runtime_error("the guest did not make its tasks in 10 minutes");
  }
  vm_.guest("sleep 3");  // for the last ones to fall asleep
}

void BenchGuest::dump(const std::string& path) const {
  const auto domain = must(open_domain(vm_.target(), kOptions));
  execute(*domain, "dump-guest-memory", {{"paging", false}, {"protocol", "file:" + path}});
}

}  // namespace vpatch::bench

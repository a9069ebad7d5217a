// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "introspect/kernel/ftrace.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// A fact, or why it is not known.
template <class T>
using Known = std::expected<T, std::string>;

/// What only guest memory tells of a livepatch that the kernel lists.
struct PatchFacts {
  std::string name;
  std::string version;  ///< MODULE_VERSION; empty when it has none
  bool replace = false;
  bool forced = false;  ///< a transition was forced while it was there
  std::vector<PatchState> states{};
  PatchCallbacks callbacks{};  ///< of all its objects together
};

/// All symbols of one name in one loaded object, in the order of livepatch's positions.
struct SymbolFacts {
  struct Place {
    std::uint64_t address = 0;
    std::uint64_t size = 0;  ///< bytes
  };

  std::string object;  ///< "vmlinux", or the name of a module
  std::string name;
  std::vector<Place> places{};
};

/// A kprobe that is registered.
struct ProbeFacts {
  std::uint64_t address = 0;
  bool post_handler = false;
  bool by_ftrace = false;  ///< hit through ftrace, not through a breakpoint
  bool disabled = false;
};

/// What preflight asks of guest memory. Symbols: those that a file names, in objects that are
/// loaded.
struct GuestFacts {
  Known<std::vector<PatchFacts>> patches{};
  Known<std::vector<SymbolFacts>> symbols{};
  Known<std::vector<ProbeFacts>> probes{};
  Known<introspect::FtraceState> ftrace{introspect::FtraceState::on};
};

/// For a guest whose memory cannot be read.
inline GuestFacts unknown_facts(const std::string& why) {
  const auto unknown = std::unexpected(why);
  return {.patches = unknown, .symbols = unknown, .probes = unknown, .ftrace = unknown};
}

}  // namespace vpatch

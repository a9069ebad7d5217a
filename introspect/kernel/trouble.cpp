// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/trouble.h"

#include <algorithm>
#include <array>

namespace vpatch::introspect {
namespace {

/// What the kernel prints; each counts only where no word runs into it, so that "DEBUG:" is none.
constexpr std::array<std::string_view, 22> kMarks = {
    "BUG:",
    "[ cut here ]",  // begins every WARN() and BUG(), whatever the words after it
    "WARNING: CPU",
    "WARNING: at",
    "WARNING: possible",    // lockdep: recursive locking, circular dependency, irq inversion
    "WARNING: suspicious",  // RCU usage
    "WARNING: bad unlock",  // lockdep
    "INFO: task",           // hung task
    "INFO: rcu",            // stall
    "rcu: INFO:",           // stall, from 4.20 on
    "Oops:",
    "Call Trace:",
    "kernel BUG",
    "general protection fault",
    "double fault",
    "stack guard page",
    "soft lockup",
    "hard LOCKUP",
    "Kernel panic",
    "Out of memory:",
    "Machine Check Exception",
    "refcount_t:",
};

bool part_of_word(char letter) {
  return (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
         (letter >= 'a' && letter <= 'z') || letter == '_';
}

bool has_mark(std::string_view text, std::string_view mark) {
  for (std::size_t at = text.find(mark); at != std::string_view::npos;
       at = text.find(mark, at + 1)) {
    if (at == 0 || !part_of_word(text[at - 1])) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool is_trouble(std::string_view text) {
  return std::ranges::any_of(kMarks,
                             [text](std::string_view mark) { return has_mark(text, mark); });
}

}  // namespace vpatch::introspect

// SPDX-License-Identifier: Apache-2.0
// For the files that implement Journal only.
#pragma once

#include "vmm-agent/journal/journal.h"
#include "vmm-agent/journal/journal_file.h"

namespace vpatch {

template <class Function>
auto Journal::attempt(std::string_view what, const Function& function) const
    -> decltype(function()) {
  return attempt_on(path_, what, function);
}

template <class Function>
auto Journal::attempt_to_write(std::string_view what, const Function& function)
    -> decltype(function()) {
  return attempt_to_write_to(*database_, path_, what, function);
}

}  // namespace vpatch

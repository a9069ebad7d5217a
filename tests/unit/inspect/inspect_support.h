// SPDX-License-Identifier: Apache-2.0
// What the tests of the patch inspection share.
#pragma once

#include <string>

#include "tests/unit/inspect/livepatch_builder.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch::test {

/// Parses `file`, which the test expects to be taken; else the test fails, and the result is empty.
LivepatchFile accept(Bytes file);

/// Parses `file`, which the test expects to be refused with a hint. Returns the text of the error.
std::string refusal(Bytes file);

/// The reason why the contents of `file`, which must be taken, are unknown.
std::string unknown_reason(Bytes file);

/// What is read from a module built from `spec`, which must be known.
PatchContents read_back(const LivepatchSpec& spec);

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/cli/options.h"
#include "vmm-agent/operation/preflight.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// What the policy file and the command line ask of the file's signature, and what it is.
Result<void> judge_signature(const LivepatchFile& file, const SignatureOptions& asked,
                             PreflightOptions& rules);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/signature_rules.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

Outcome run_inspect(Program& program) {
  auto file = read_livepatch(program.options.file);
  if (!file) {
    return program.print_error(file.error(), "inspect");
  }
  PreflightOptions rules;
  if (auto judged = judge_signature(*file, program.options.signature, rules); !judged) {
    return program.print_error(judged.error(), "inspect");
  }
  const SignatureCheck signature = rules.signature.value_or(SignatureCheck());
  program.print(to_json(*file, signature), render(*file, signature));
  const bool refused = rules.require_signed && signature.state != SignatureState::good;
  return refused ? Outcome::refused : Outcome::done;
}

}  // namespace vpatch

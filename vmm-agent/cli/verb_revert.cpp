// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <utility>

#include "vmm-agent/cli/change.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/signature_rules.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/revert.h"
#include "vmm-agent/operation/roll_forward.h"

namespace vpatch {
namespace {

/// --to and --replace-with-nop are applies, with the options of revert. Of a file that lies in
/// the guest the signature is not judged.
Result<ApplyOptions> roll_forward_options(const Program& program, const LivepatchFile* file) {
  ApplyOptions how = program.options.apply;
  how.timeout = program.options.revert.timeout;
  how.on_stall = program.options.revert.on_stall;
  if (file != nullptr) {
    if (auto judged = judge_signature(*file, program.options.signature, how.preflight); !judged) {
      return std::unexpected(std::move(judged.error()));
    }
  }
  return how;
}

Outcome revert_to_file(Program& program) {
  auto file = read_livepatch(program.options.revert_to);
  if (!file) {
    return program.print_error(file.error(), "revert");
  }
  const auto how = roll_forward_options(program, &*file);
  if (!how) {
    return program.print_error(how.error(), "revert");
  }
  return change(
      program, entry_of("revert", *file), "revert to " + file->name,
      [&](Context& environment) {
        return revert_to(
            environment, *file, *how,
            program.options.persist ? std::optional(program.options.settle) : std::nullopt);
      },
      [&](Recorder& recorder, const Domain& domain, Report& report) {
        if (program.options.persist && report.outcome == Outcome::done) {
          keep_registered(recorder, domain, program.connection(), *file, program.options.revert_to,
                          report);
        }
        forget_others(recorder, domain, report);
      });
}

Outcome revert_to_nop(Program& program) {
  std::optional<LivepatchFile> nop;
  if (!program.options.nop.empty()) {
    auto file = read_livepatch(program.options.nop);
    if (!file) {
      return program.print_error(file.error(), "revert");
    }
    nop = *std::move(file);
  }
  const auto how = roll_forward_options(program, nop ? &*nop : nullptr);
  if (!how) {
    return program.print_error(how.error(), "revert");
  }
  OperationStart entry{.verb = "revert", .patch = std::string(kNopModule)};
  return change(
      program, nop ? entry_of("revert", *nop) : std::move(entry), "revert by an empty livepatch",
      [&](Context& environment) { return replace_with_nop(environment, nop, *how); },
      forget_others);
}

}  // namespace

Outcome run_revert(Program& program) {
  if (!program.options.revert_to.empty()) {
    return revert_to_file(program);
  }
  if (program.options.replace_with_nop) {
    return revert_to_nop(program);
  }
  return change(
      program, {.verb = "revert", .patch = program.options.revert.patch},
      "revert " + program.options.revert.patch,
      [&](Context& environment) { return revert(environment, program.options.revert); },
      forget_registered);
}

}  // namespace vpatch

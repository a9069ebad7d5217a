// SPDX-License-Identifier: Apache-2.0
// The verbs. They print all that they have to say, and return the exit code. run_apply() is in
// verb_apply.cpp, and so on; those that only look into a guest are in verb_look.cpp.
#pragma once

#include "vmm-agent/error.h"

namespace vpatch {

class Program;
struct Options;

Outcome run_inspect(Program& program);
Outcome run_apply(Program& program);
Outcome run_revert(Program& program);
Outcome run_force(Program& program);
Outcome run_ensure(Program& program);
Outcome run_status(Program& program);
Outcome run_stacks(Program& program);
Outcome run_log(Program& program);
Outcome run_history(Program& program);
Outcome run_doctor(Program& program);
Outcome run_health(Program& program);
Outcome run_group(Program& program);
Outcome run_serve(Program& program);

// Without a Program: they handle signals by themselves.

/// `vpatch serve --stdio`
Outcome serve_stdio(const Options& options);
/// `vpatch exporter`
Outcome export_metrics(const Options& options);

}  // namespace vpatch

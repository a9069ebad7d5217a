// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/json.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch {
namespace {

namespace json = boost::json;

constexpr int kSchema = 1;

json::array strings(const std::vector<std::string>& list) {
  json::array result;
  for (const std::string& text : list) {
    result.emplace_back(text);
  }
  return result;
}

template <class T>
json::value or_null(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::object to_json(const PatchedObject& object) {
  json::array functions;
  for (const PatchedFunction& function : object.functions) {
    functions.push_back(json::object{{"name", function.name},
                                     {"position", function.position},
                                     {"replacement", function.replacement}});
  }
  return {{"name", object.name},
          {"functions", std::move(functions)},
          {"callbacks", json::object{{"pre_patch", object.callbacks.pre_patch},
                                     {"post_patch", object.callbacks.post_patch},
                                     {"pre_unpatch", object.callbacks.pre_unpatch},
                                     {"post_unpatch", object.callbacks.post_unpatch}}}};
}

json::value to_json(const std::optional<PatchContents>& contents) {
  if (!contents) {
    return nullptr;
  }
  json::array objects;
  for (const PatchedObject& object : contents->objects) {
    objects.push_back(to_json(object));
  }
  json::array states;
  for (const PatchState& state : contents->states) {
    states.push_back(json::object{{"id", state.id}, {"version", state.version}});
  }
  return json::object{{"replace", or_null(contents->replace)},
                      {"objects", std::move(objects)},
                      {"states", std::move(states)}};
}

json::array switched_tasks(const std::vector<SwitchedTask>& tasks) {
  json::array switched;
  for (const SwitchedTask& task : tasks) {
    switched.push_back(
        json::object{{"tid", task.tid}, {"name", task.name}, {"stack", strings(task.stack)}});
  }
  return switched;
}

json::value to_json(const std::optional<TransitionRecord>& record) {
  if (!record) {
    return nullptr;
  }
  return json::object{{"lasted_us", record->lasted.count()},
                      {"completing_us", record->completing.count()},
                      {"paused_us", record->paused.count()},
                      {"longest_pause_us", record->longest_pause.count()},
                      {"pauses", record->pauses},
                      {"retries", record->retries},
                      {"rescheds", record->rescheds},
                      {"signals", record->signals},
                      {"switches", record->switches},
                      {"switched", switched_tasks(record->switched)},
                      {"pending", to_json(record->pending)}};
}

json::value to_json(const std::optional<TransitionProgress>& progress) {
  if (!progress) {
    return nullptr;
  }
  return json::object{{"patch", progress->patch},
                      {"direction", progress->patching ? "patching" : "unpatching"},
                      {"tasks", or_null(progress->tasks)},
                      {"moved", or_null(progress->moved)},
                      {"kernel_retries", or_null(progress->kernel_retries)}};
}

json::object to_json(const NamedFrame& frame) {
  return {{"text", frame.text},     {"function", frame.function},
          {"module", frame.module}, {"offset", frame.offset},
          {"size", frame.size},     {"address", fmt::format("{:#x}", frame.address)},
          {"exact", frame.exact}};
}

json::object to_json(const NamedStack& stack) {
  const introspect::Task& task = stack.task;
  json::array frames;
  for (const NamedFrame& frame : stack.frames) {
    frames.push_back(to_json(frame));
  }
  return {{"tid", task.tid},
          {"pid", task.pid},
          {"name", task.name},
          {"state", std::string(1, task.state_letter())},
          {"switches", task.switches},
          {"kthread", task.kthread()},
          {"idle_of", or_null(task.idle_of)},
          {"cpu", task.cpu},
          {"vcpu", or_null(stack.vcpu)},
          {"patch_state", or_null(task.patch_state)},
          {"patch_pending", task.patch_pending},
          {"activity", introspect::to_string(stack.activity)},
          {"reliable", stack.unreliable == introspect::Unreliable::none},
          {"unreliable", stack.unreliable == introspect::Unreliable::none
                             ? json::value(nullptr)
                             : json::value(introspect::to_string(stack.unreliable))},
          {"frames", std::move(frames)},
          {"blocks",
           stack.blocks ? json::value(introspect::to_string(*stack.blocks)) : json::value(nullptr)},
          {"why", stack.why}};
}

json::object to_json(const GuestPatch& patch, std::optional<std::size_t> order,
                     std::string_view role) {
  json::array objects;
  for (const GuestPatchedObject& object : patch.objects) {
    objects.push_back(json::object{{"name", object.name},
                                   {"patched", or_null(object.patched)},
                                   {"waiting", is_waiting(patch, object)},
                                   {"functions", strings(object.functions)}});
  }
  return {{"name", patch.name},
          {"build_id", patch.build_id},
          {"phase", to_string(patch.phase())},
          {"order", or_null(order)},
          {"role", role.empty() ? json::value(nullptr) : json::value(role)},
          {"forced", patch.forced},
          {"enabled", patch.enabled},
          {"transition", patch.transition},
          {"replace", or_null(patch.replace)},
          {"stack_order", or_null(patch.stack_order)},
          {"objects", std::move(objects)}};
}

}  // namespace

json::object to_json(const SwitchOutcome& outcome, const std::string& patch) {
  return {{"patch", patch},
          {"pause_us", outcome.pause.value_or(std::chrono::microseconds(0)).count()},
          {"switched", switched_tasks(outcome.switched)},
          {"refused", strings(outcome.refused)}};
}

json::object to_json(const Finding& finding) {
  return {{"severity", to_string(finding.severity)},
          {"id", finding.id},
          {"row", finding.row},
          {"text", finding.text},
          {"hint", finding.hint},
          {"overridden_by", finding.overridden_by}};
}

json::object to_json(const PendingTasks& pending) {
  json::array tasks;
  for (const PendingTask& task : pending.first) {
    tasks.push_back(json::object{{"tid", task.tid},
                                 {"name", task.name},
                                 {"state", task.state},
                                 {"stack", strings(task.stack)},
                                 {"reason", task.reason},
                                 {"why", task.why},
                                 {"pending_us", task.pending_for.count()}});
  }
  return {{"count", pending.count}, {"tasks", std::move(tasks)}};
}

json::object to_json(const LivepatchFile& file, const SignatureCheck& signature) {
  json::array symbols;
  for (const NeededSymbol& symbol : file.symbols) {
    symbols.push_back(json::object{
        {"object", symbol.object}, {"name", symbol.name}, {"position", symbol.position}});
  }
  return {{"schema", kSchema},
          {"verb", "inspect"},
          {"name", file.name},
          {"version", file.version},
          {"description", file.description},
          {"release", file.release},
          {"vermagic", file.vermagic},
          {"build_id", file.build_id},
          {"srcversion", file.srcversion},
          {"sha256", file.sha256},
          {"size", file.bytes.size()},
          {"signed", file.is_signed},
          {"signature", json::object{{"id", finding_id(signature.state)},
                                     {"signer", signature.signer},
                                     {"text", signature.detail}}},
          {"symbols", std::move(symbols)},
          {"depends", strings(file.depends)},
          {"contents", to_json(file.contents)},
          {"contents_unknown", file.contents_unknown}};
}

json::object to_json(const Status& status, const std::string& domain) {
  json::array patches;
  const GuestPatch* const base = base_of(status.guest);
  for (const GuestPatch& patch : status.guest.patches) {
    const auto order = status.ordered ? std::optional(patches.size() + 1) : std::nullopt;
    patches.push_back(to_json(patch, order, role_of(status.guest, patch)));
  }
  json::array forced;
  for (const ForcedPatch& one : status.forced) {
    forced.push_back(json::object{{"patch", one.patch}, {"sign", to_string(one.sign)}});
  }
  json::array refused;
  for (const RefusedModule& one : status.refused_modules) {
    refused.push_back(json::object{{"patch", one.patch}, {"module", one.module}});
  }
  json::object guest_module;
  for (const auto& [name, value] : status.guest.guest_module) {
    guest_module[name] = value;
  }
  return {
      {"schema", kSchema},
      {"verb", "status"},
      {"domain", domain},
      {"release", status.guest.release},
      {"build_id", status.build_id},
      {"boot_id", status.guest.boot_id},
      {"uptime_seconds", status.guest.uptime_seconds},
      {"tainted", status.guest.tainted},
      {"taint_letters", taint_letters(status.guest.tainted)},
      {"livepatch_supported", status.guest.has_livepatch},
      {"base", base == nullptr ? json::value(nullptr) : json::value(base->name)},
      {"patches", std::move(patches)},
      {"reboot_planned", !status.forced.empty()},
      {"forced", std::move(forced)},
      {"refused_modules", std::move(refused)},
      {"transition", to_json(status.transition)},
      {"pending", status.pending ? json::value(to_json(*status.pending)) : json::value(nullptr)},
      {"guest_module", status.guest.guest_module.empty() ? json::value(nullptr)
                                                         : json::value(std::move(guest_module))}};
}

json::object to_json(const StacksReport& report, const std::string& domain) {
  json::array tasks;
  for (const NamedStack& stack : report.stacks) {
    tasks.push_back(to_json(stack));
  }
  return {{"schema", kSchema},
          {"verb", "stacks"},
          {"domain", domain},
          {"release", report.release},
          {"tasks_seen", report.tasks_seen},
          {"tasks", std::move(tasks)},
          {"running", report.running},
          {"unknown", strings(report.unknown)},
          {"incomplete", report.incomplete},
          {"why_incomplete", report.why_incomplete},
          {"look_us", report.look.count()},
          {"pause_us", report.pause ? json::value(report.pause->count()) : json::value(nullptr)}};
}

json::object to_json(const introspect::KernelLog& log, const std::string& domain) {
  json::array records;
  for (const introspect::LogRecord& record : log.records) {
    records.push_back(json::object{{"sequence", record.sequence},
                                   {"time_ns", record.time_ns},
                                   {"facility", record.facility},
                                   {"level", record.level},
                                   {"text", record.text}});
  }
  return {{"schema", kSchema},
          {"verb", "log"},
          {"domain", domain},
          {"records", std::move(records)},
          {"lost", log.lost}};
}

json::object to_json(const std::vector<Check>& checks) {
  json::array list;
  for (const Check& check : checks) {
    list.push_back(json::object{{"id", check.id},
                                {"health", to_string(check.health)},
                                {"text", check.text},
                                {"hint", check.hint}});
  }
  return {{"schema", kSchema}, {"verb", "doctor"}, {"checks", std::move(list)}};
}

json::object to_json(const HealthReport& report, const std::string& domain) {
  json::array checks;
  for (const HealthCheck& check : report.checks) {
    checks.push_back(
        json::object{{"id", check.id}, {"health", to_string(check.health)}, {"text", check.text}});
  }
  json::array patches;
  for (const GuestPatch& patch : report.patches) {
    patches.push_back(json::object{{"name", patch.name},
                                   {"build_id", patch.build_id},
                                   {"phase", to_string(patch.phase())},
                                   {"transition", patch.transition}});
  }
  json::value command;
  if (report.command) {
    command = json::object{{"exit_code", or_null(report.command->exit_code)},
                           {"output", report.command->output}};
  }
  return {{"schema", kSchema},
          {"verb", "health"},
          {"domain", domain},
          {"health", to_string(report.health)},
          {"exit_code", static_cast<int>(outcome_of(report.health))},
          {"text", report.text},
          {"state", report.state},
          {"busy", report.busy},
          {"boot_id", report.boot_id},
          {"log_sequence", or_null(report.log_sequence)},
          {"taint", or_null(report.taint)},
          {"release", report.release},
          {"checks", std::move(checks)},
          {"kernel_log", strings(report.kernel_log)},
          {"patches", std::move(patches)},
          {"command", std::move(command)}};
}

json::object to_json(const Report& report, const std::string& verb, const std::string& domain) {
  json::array findings;
  for (const Finding& finding : report.findings) {
    findings.push_back(to_json(finding));
  }
  return {{"schema", kSchema},
          {"verb", verb},
          {"domain", domain},
          {"patch", report.patch},
          {"outcome", to_string(report.outcome)},
          {"exit_code", static_cast<int>(report.outcome)},
          {"summary", report.summary},
          {"hint", report.hint},
          {"findings", std::move(findings)},
          {"replaced", strings(report.replaced)},
          {"unloaded", strings(report.unloaded)},
          {"blockers", to_json(report.blockers)},
          {"kernel_log", strings(report.kernel_log)},
          {"elapsed_ms", report.elapsed.count()},
          {"transition_us", or_null(report.transition_us)},
          {"transition", to_json(report.transition)}};
}

json::object to_json(const Error& error, const std::string& verb) {
  json::array findings;
  if (!error.id.empty()) {
    findings.push_back(to_json(Finding{Severity::error, error.id, error.what, error.hint}));
  }
  return {{"schema", kSchema},
          {"verb", verb},
          {"outcome", to_string(error.outcome)},
          {"exit_code", static_cast<int>(error.outcome)},
          {"summary", error.what},
          {"hint", error.hint},
          {"findings", std::move(findings)}};
}

json::object to_json(const std::vector<Registration>& registrations) {
  json::array list;
  for (const Registration& one : registrations) {
    list.push_back(json::object{{"domain", one.domain},
                                {"identity", one.identity},
                                {"connection", one.connection},
                                {"patch", one.patch},
                                {"patch_version", one.patch_version},
                                {"file", one.file},
                                {"file_sha256", one.file_sha256},
                                {"release", one.release}});
  }
  return {{"schema", kSchema}, {"verb", "ensure"}, {"registrations", std::move(list)}};
}

json::object to_json(const DomainGroups& groups) {
  return {{"schema", kSchema},
          {"verb", "group"},
          {"domain", groups.domain},
          {"identity", groups.identity},
          {"groups", strings(groups.groups)}};
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/agent_guest.h"

#include <algorithm>

#include <fmt/format.h>

#include "vmm-agent/domain/domain.h"

namespace vpatch {
namespace {

// Every script runs under a POSIX shell (busybox, dash, bash). tool() prefers the programs on disk:
// a busybox shell would run its own insmod, which tries a load that failed a second time.
constexpr std::string_view kPrologue =
    R"sh(PATH="$PATH:/usr/sbin:/sbin:/usr/bin:/bin"; export PATH LC_ALL=C
tool() {
  for d in /usr/sbin /sbin /usr/bin /bin; do
    if [ -x "$d/$1" ]; then t=$d/$1; shift; exec "$t" "$@"; fi
  done
  exec "$@"
}
)sh";

// Shell built-ins do the reading where they can: no process is started in the guest for each value.
// They read byte by byte, which /proc/sys does not take: it gives one byte and then the end of the
// file.
constexpr std::string_view kObserve = R"sh(
p() { v=; IFS= read -r v 2>/dev/null <"$2" || [ -n "$v" ] || return 0; printf '%s\t%s\n' "$1" "$v"; }
printf 'release\t%s\n' "$(uname -r)"
printf 'boot_id\t%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
printf 'tainted\t%s\n' "$(cat /proc/sys/kernel/tainted)"
p uptime /proc/uptime
[ -d /sys/kernel/livepatch ] && printf 'livepatch\t1\n'
while IFS= read -r line; do printf 'module\t%s\n' "$line"; done </proc/modules
for f in /sys/kernel/vpatch/*; do [ -r "$f" ] && [ "${f##*/}" != watch ] && p "guest.${f##*/}" "$f"; done
for d in /sys/kernel/livepatch/*/; do
  [ -e "$d/enabled" ] || continue
  n=${d%/}; printf 'patch\t%s\n' "${n##*/}"
  for k in enabled transition replace stack_order; do [ -e "$d/$k" ] && p "$k" "$d/$k"; done
  for o in "$d"*/; do
    [ -d "$o" ] || continue
    n=${o%/}; printf 'object\t%s\n' "${n##*/}"
    [ -e "$o/patched" ] && p patched "$o/patched"
    for f in "$o"*/; do [ -d "$f" ] || continue; n=${f%/}; printf 'function\t%s\n' "${n##*/}"; done
  done
done
exit 0
)sh";

// $1: the patch state that tasks are moving to. Details of the first 16, and the number of all.
constexpr std::string_view kPendingTasks = R"sh(
n=0
for s in /proc/[0-9]*/task/[0-9]*/patch_state; do
  v=; read -r v 2>/dev/null <"$s" || continue
  if [ "$v" = -1 ] || [ "$v" = "$1" ]; then continue; fi
  n=$((n+1)); [ "$n" -gt 16 ] && continue
  t=${s%/patch_state}; printf 'task\t%s\n' "${t##*/}"
  IFS= read -r c 2>/dev/null <"$t/comm" && printf 'comm\t%s\n' "$c"
  while IFS= read -r l; do case $l in State:*) printf 'state\t%s\n' "${l#State:?}"; break;; esac; done 2>/dev/null <"$t/status"
  while IFS= read -r l; do printf 'frame\t%s\n' "$l"; done 2>/dev/null <"$t/stack"
done
printf 'count\t%s\n' "$n"
)sh";

// The agent creates files that everybody may write; only the folder keeps others from the module
// before it is loaded. Its name is not that of the lock folder, for a guest may be a host of its
// own.
constexpr std::string_view kMakeFolder =
    "rm -rf /run/vpatch-delivery && mkdir -m 0700 /run/vpatch-delivery";
constexpr std::string_view kRemoveDelivered = "rm -rf /run/vpatch-delivery";
constexpr std::string_view kChecksum = R"sh(tool sha256sum "$1")sh";
// A guest without renice loads it all the same. $$ is the shell, and what it then executes.
constexpr std::string_view kUrgent = "(tool renice -n -20 -p $$) >/dev/null 2>&1\n";
constexpr std::string_view kLoad =
    R"sh((tool insmod "$1"); r=$?; rm -rf /run/vpatch-delivery; exit $r)sh";
constexpr std::string_view kUnload = R"sh(tool rmmod -- "$1")sh";
constexpr std::string_view kSetEnabled = R"sh(
[ -e /sys/kernel/vpatch/watch ] && printf %s "$1" 2>/dev/null >/sys/kernel/vpatch/watch
printf %s "$2" >"/sys/kernel/livepatch/$1/enabled"
)sh";
constexpr std::string_view kForce = R"sh(printf 1 >"/sys/kernel/livepatch/$1/force")sh";
// Exit code 44: no such module is installed.
constexpr std::string_view kInstalledModule = R"sh(
f=$(tool modinfo -n "$1" 2>/dev/null) && [ -e "$f" ] || exit 44
case $f in
  */lib/modules/"$(uname -r)"/*.ko) cat <"$f" ;;
  */lib/modules/"$(uname -r)"/*.ko.xz) tool xz -dc <"$f" ;;
  */lib/modules/"$(uname -r)"/*.ko.zst) tool zstd -dc <"$f" ;;
  */lib/modules/"$(uname -r)"/*.ko.gz) tool gzip -dc <"$f" ;;
  *) exit 44 ;;
esac
)sh";
constexpr int kNotInstalled = 44;
constexpr std::string_view kLogTail =
    R"sh(l=$(dmesg) || exit 1; printf '%s\n' "$l" | tail -n 500)sh";

constexpr std::size_t kMaxNoteBytes = 4096;
constexpr std::size_t kMaxMessage = 400;
constexpr std::size_t kMaxLogLine = 1000;

std::string delivered_path(const std::string& module) {
  return fmt::format("/run/vpatch-delivery/{}.ko", module);
}

std::string clean(std::string_view text, std::size_t limit) {
  std::string result(text.substr(0, limit));
  while (!result.empty() && (result.back() == '\n' || result.back() == '\r')) {
    result.pop_back();
  }
  std::ranges::replace_if(result, [](char c) { return c < ' ' || c > '~'; }, ' ');
  return result;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(clean(text.substr(0, end), kMaxLogLine));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// The description of the GNU build id note (ELF note: name size, description size, type, "GNU\0",
/// description).
std::string build_id_from_note(std::string_view note) {
  constexpr std::size_t kHeader = 16;
  if (note.size() < kHeader) {
    return {};
  }
  const auto size = static_cast<std::size_t>(static_cast<unsigned char>(note[4]));
  std::string result;
  for (const char c : note.substr(kHeader, size)) {
    result += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace

Result<qmp::AgentInfo> AgentGuest::agent_info(const qmp::CallOptions& options) {
  auto info = agent_.info(options);
  if (!info) {
    return std::unexpected(from_qmp(info.error()));
  }
  return *std::move(info);
}

Result<qmp::ExecResult> AgentGuest::run_script(std::string_view script,
                                               std::vector<std::string> arguments,
                                               const qmp::CallOptions& options) {
  qmp::ExecRequest request{
      .path = "/bin/sh",
      .arguments = {"-c", std::string(kPrologue) + std::string(script), "vpatch"}};
  std::ranges::move(arguments, std::back_inserter(request.arguments));
  auto result = agent_.exec(request, options);
  if (!result) {
    return std::unexpected(from_qmp(result.error()));
  }
  return *std::move(result);
}

Result<ToolResult> AgentGuest::run_tool(std::string_view script, std::vector<std::string> arguments,
                                        const qmp::CallOptions& options) {
  return map(run_script(script, std::move(arguments), options), [](const qmp::ExecResult& result) {
    return ToolResult{result.ok(), clean(result.err, kMaxMessage)};
  });
}

Result<GuestState> AgentGuest::observe(const qmp::CallOptions& options) {
  auto result = run_script(kObserve, {}, options);
  if (!result) {
    return std::unexpected(result.error());
  }
  GuestState state = parse_guest_state(result->out);
  if (!result->ok() || state.release.empty() || result->truncated) {
    return fail(
        Outcome::unreachable,
        "the guest's state could not be read: " + clean(result->err, kMaxMessage),
        "vpatch needs /bin/sh, /proc and /sys in the guest; `vpatch doctor` looks at each step.");
  }
  return state;
}

Result<PendingTasks> AgentGuest::pending_tasks(bool patched, const qmp::CallOptions& options) {
  return map(run_script(kPendingTasks, {patched ? "1" : "0"}, options),
             [](const qmp::ExecResult& result) { return parse_pending_tasks(result.out); });
}

Result<std::string> AgentGuest::module_build_id(const std::string& module,
                                                const qmp::CallOptions& options) {
  auto note = agent_.read_file(fmt::format("/sys/module/{}/notes/.note.gnu.build-id", module),
                               kMaxNoteBytes, options);
  if (!note) {
    if (note.error().code == qmp::Errc::command && note.error().error_class != "CommandNotFound") {
      return std::string();  // no such file: the module carries no build id
    }
    return std::unexpected(from_qmp(note.error()));
  }
  return build_id_from_note(*note);
}

Result<void> AgentGuest::deliver(const std::string& module, std::span<const std::byte> bytes,
                                 const std::string& sha256, const qmp::TransferProgress& progress,
                                 const qmp::CallOptions& options) {
  auto folder = run_tool(kMakeFolder, {}, options);
  if (!folder) {
    return std::unexpected(folder.error());
  }
  if (!folder->ok) {
    return fail(Outcome::failed_restored,
                "cannot make the folder /run/vpatch-delivery in the guest: " + folder->message,
                "vpatch needs /run in the guest to be writable.");
  }
  auto written = agent_.write_file(delivered_path(module), bytes, options, progress);
  if (!written) {
    Error error = from_qmp(written.error());
    if (written.error().code == qmp::Errc::command &&
        written.error().error_class != "CommandNotFound") {
      error.outcome =
          Outcome::failed_restored;  // the agent answers; the guest's file system refused
      error.hint = "Is there room in the guest's /run, and may the agent write there?";
    }
    return std::unexpected(std::move(error));
  }
  auto sum = run_script(kChecksum, {delivered_path(module)}, options);
  if (!sum) {
    return std::unexpected(sum.error());
  }
  if (!sum->ok()) {
    return fail(Outcome::failed_restored,
                "the delivered file could not be checked: " + clean(sum->err, kMaxMessage),
                "vpatch needs sha256sum in the guest.");
  }
  if (!sum->out.starts_with(sha256)) {
    return fail(Outcome::failed_restored, "the file arrived changed in the guest",
                "Try again; if it stays so, the agent's channel garbles what it carries.");
  }
  return {};
}

Result<void> AgentGuest::remove_delivered(const qmp::CallOptions& options) {
  auto result = run_tool(kRemoveDelivered, {}, options);
  if (!result) {
    return std::unexpected(result.error());
  }
  if (!result->ok) {
    return fail(Outcome::failed_needs_look, "cannot remove the delivered file: " + result->message,
                "Remove /run/vpatch-delivery in the guest by hand.");
  }
  return {};
}

std::string AgentGuest::with_urgency(std::string_view script) const {
  return std::string(urgency_ == Urgency::highest ? kUrgent : "") + std::string(script);
}

Result<ToolResult> AgentGuest::load(const std::string& module, const qmp::CallOptions& options) {
  return run_tool(with_urgency(kLoad), {delivered_path(module)}, options);
}

Result<ToolResult> AgentGuest::unload(const std::string& module, const qmp::CallOptions& options) {
  return run_tool(kUnload, {module}, options);
}

Result<ToolResult> AgentGuest::set_enabled(const std::string& patch, bool enabled,
                                           const qmp::CallOptions& options) {
  return run_tool(with_urgency(kSetEnabled), {patch, enabled ? "1" : "0"}, options);
}

Result<ToolResult> AgentGuest::force(const std::string& patch, const qmp::CallOptions& options) {
  return run_tool(kForce, {patch}, options);
}

Result<std::string> AgentGuest::installed_module(const std::string& module,
                                                 const qmp::CallOptions& options) {
  auto result = run_script(kInstalledModule, {module}, options);
  if (!result) {
    return std::unexpected(result.error());
  }
  if (result->exit_code == kNotInstalled) {
    return std::string();
  }
  if (!result->ok() || result->truncated) {
    return fail(Outcome::refused,
                fmt::format("the guest's module {} could not be read: {}", module,
                            clean(result->err, kMaxMessage)),
                "A compressed module needs xz, zstd or gzip in the guest.");
  }
  return std::move(result->out);
}

Result<std::vector<std::string>> AgentGuest::log_tail(const qmp::CallOptions& options) {
  auto result = run_script(kLogTail, {}, options);
  if (!result) {
    return std::unexpected(result.error());
  }
  if (!result->ok() || result->truncated) {
    return fail(Outcome::unreachable,
                "the guest's kernel log could not be read: " + clean(result->err, kMaxMessage),
                "vpatch needs dmesg in the guest, and the agent's right to run it.");
  }
  return split_lines(result->out);
}

Result<std::string> AgentGuest::log_mark(const qmp::CallOptions& options) {
  return map(log_tail(options), [](const std::vector<std::string>& lines) {
    return lines.empty() ? std::string() : lines.back();
  });
}

Result<std::vector<std::string>> AgentGuest::log_since(const std::string& mark,
                                                       const qmp::CallOptions& options) {
  return map(log_tail(options), [&mark](std::vector<std::string> lines) {
    const auto last = std::ranges::find(lines.rbegin(), lines.rend(), mark);
    lines.erase(lines.begin(), last.base());
    return lines;
  });
}

}  // namespace vpatch

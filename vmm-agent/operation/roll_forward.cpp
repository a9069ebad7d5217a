// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/roll_forward.h"

#include <algorithm>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "vmm-agent/operation/settle.h"

namespace vpatch {
namespace {

bool has_callbacks(const PatchCallbacks& set) {
  return set.pre_patch || set.post_patch || set.pre_unpatch || set.post_unpatch;
}

bool is_empty(const PatchContents& contents) {
  return std::ranges::all_of(contents.objects, [](const PatchedObject& object) {
    return object.functions.empty() && !has_callbacks(object.callbacks);
  });
}

Report concluded(const Context& context, std::string patch, const Error& error) {
  Report report;
  report.patch = std::move(patch);
  report.conclude(error.outcome, fmt::format("{}: {}", context.domain, error.what), error.hint);
  return report;
}

/// The livepatches that were added to `base`, which is in force; they would stay.
Result<std::string> additions_to(Context& context, const std::string& base) {
  const auto state = context.guest.observe(context.interruptible());
  if (!state) {
    return std::unexpected(state.error());
  }
  std::string names;
  const GuestPatch* const patch = state->find_patch(base);
  if (patch != nullptr && patch->phase() == PatchPhase::patched) {
    for (const GuestPatch& other : state->patches) {
      names += other.name == base ? "" : " " + other.name;
    }
  }
  return names;
}

Result<LivepatchFile> installed_nop(Context& context) {
  auto bytes = context.guest.installed_module(std::string(kNopModule), context.interruptible());
  if (!bytes) {
    return std::unexpected(bytes.error());
  }
  if (bytes->empty()) {
    return fail(
        Outcome::refused,
        fmt::format("the guest has no module {} installed for its kernel", kNopModule),
        "Install vpatch-guest (DKMS) in the guest, which builds it for each kernel; or give "
        "one built for that kernel with --nop FILE.");
  }
  const auto raw = std::as_bytes(std::span(*bytes));
  return parse_livepatch({raw.begin(), raw.end()}, fmt::format("{} of the guest", kNopModule));
}

}  // namespace

Report revert_to(Context& context, const LivepatchFile& file, ApplyOptions options,
                 std::optional<std::chrono::milliseconds> settle) {
  if (!file.contents || file.contents->replace != true) {
    return concluded(context, file.name,
                     {Outcome::refused,
                      fmt::format("{} is not known to be a cumulative livepatch: it would not take "
                                  "back what is in force",
                                  file.name),
                      "Take a livepatch out of force by name: vpatch revert NAME."});
  }
  const auto additions = additions_to(context, file.name);
  if (!additions) {
    return concluded(context, file.name, additions.error());
  }
  if (!additions->empty()) {
    return concluded(context, file.name,
                     {Outcome::refused,
                      fmt::format("{} is in force already, and these were added to it:{}",
                                  file.name, *additions),
                      "Take each of them back: vpatch revert NAME."});
  }
  options.preflight.allow_downgrade = true;
  return settle ? apply_and_watch(context, file, options, *settle) : apply(context, file, options);
}

Report replace_with_nop(Context& context, const std::optional<LivepatchFile>& nop,
                        const ApplyOptions& options) {
  context.reporter.progress("looking for the empty livepatch");
  const auto file = nop ? Result<LivepatchFile>(*nop) : installed_nop(context);
  if (!file) {
    return concluded(context, std::string(kNopModule), file.error());
  }
  if (!file->contents || !is_empty(*file->contents)) {
    return concluded(context, file->name,
                     {Outcome::refused,
                      fmt::format("{} is not known to be empty: it changes functions or has "
                                  "callbacks",
                                  file->name),
                      "To go back to a livepatch that changes something use --to FILE."});
  }
  return revert_to(context, *file, options);
}

}  // namespace vpatch

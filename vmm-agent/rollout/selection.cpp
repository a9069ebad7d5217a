// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/selection.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>
#include <fnmatch.h>

#include "vmm-agent/patch/modinfo.h"

namespace vpatch::rollout {
namespace {

// POSIX says nothing of fnmatch()'s time and stack. glibc's is quick on any of these.
constexpr std::size_t kLongestGlob = 256;
constexpr std::ptrdiff_t kMostStars = 8;
constexpr std::size_t kLongestName = 4096;

/// The places of a plan's files by kernel.
using Files = std::unordered_map<std::string, std::size_t>;

Files files_by_kernel(const Plan& plan) {
  Files files;
  for (std::size_t i = 0; i < plan.files.size(); ++i) {
    files.emplace(plan.files[i].kernel, i);
  }
  return files;
}

Selected with_file(const Target& target, const Files& files) {
  if (!target.running) {
    return {Choice::off, {}, "it does not run"};
  }
  for (const std::string& kernel : {target.build_id, target.kernel_release}) {
    if (const auto found = files.find(kernel); !kernel.empty() && found != files.end()) {
      return {Choice::chosen, found->second, {}};
    }
  }
  if (target.build_id.empty() && target.kernel_release.empty()) {
    return {Choice::unmatched, {}, "its kernel is not known"};
  }
  return {
      Choice::unmatched,
      {},
      fmt::format("the plan has no file for its kernel (release {}, build id {})",
                  target.kernel_release.empty() ? "unknown" : displayable(target.kernel_release),
                  target.build_id.empty() ? "unknown" : displayable(target.build_id))};
}

/// Marks those of `shown`, one domain on several connections, that are not to be used.
void mark_duplicates(std::span<const Target> targets, std::span<const std::size_t> shown,
                     std::vector<Selected>& selected) {
  const auto runs = [&](std::size_t i) { return targets[i].running; };
  const auto running = std::ranges::count_if(shown, runs);
  const auto used = running == 1 ? std::ranges::find_if(shown, runs) : shown.end();
  for (auto one = shown.begin(); one != shown.end(); ++one) {
    if (one == used) {
      continue;
    }
    const std::size_t other = used != shown.end() ? *used : shown[one == shown.begin() ? 1 : 0];
    selected[*one] = {
        Choice::duplicate,
        {},
        fmt::format("{} shows the same domain{}", displayable(targets[other].connection),
                    running == 1   ? ", and it runs there"
                    : running == 0 ? ", and it runs on neither"
                                   : ", and it runs on several")};
  }
}

}  // namespace

bool is_glob(std::string_view name) {
  return name.find_first_of("*?[\\") != std::string_view::npos;
}

Result<void> check_glob(std::string_view glob) {
  if (glob.empty() || glob.size() > kLongestGlob) {
    return fail(Outcome::usage,
                fmt::format("a name or glob must be of 1 to {} bytes", kLongestGlob));
  }
  if (std::ranges::count(glob, '*') > kMostStars) {
    return fail(Outcome::usage, fmt::format("{} has more than {} stars", glob, kMostStars));
  }
  return {};
}

Matcher::Names::Names(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (is_glob(name)) {
      globs_.push_back(name);
    } else {
      plain_.insert(name);
    }
  }
}

bool Matcher::Names::match(const std::string& name) const {
  if (plain_.contains(name)) {
    return true;
  }
  return name.size() <= kLongestName && std::ranges::any_of(globs_, [&](const std::string& glob) {
           return fnmatch(glob.c_str(), name.c_str(), 0) == 0;
         });
}

Matcher::Matcher(const Selection& selection)
    : connections_(selection.connections.begin(), selection.connections.end()),
      groups_(selection.groups.begin(), selection.groups.end()),
      names_(selection.names),
      except_(selection.except),
      all_(selection.names.empty() && selection.groups.empty()) {}

bool Matcher::matches(const Target& target) const {
  if (!connections_.empty() && !connections_.contains(target.connection)) {
    return false;
  }
  const bool named = all_ || names_.match(target.name) ||
                     std::ranges::any_of(target.groups, [&](const std::string& group) {
                       return groups_.contains(group);
                     });
  return named && !except_.match(target.name);
}

std::vector<Selected> select(const Plan& plan, std::span<const Target> targets) {
  const Matcher matcher(plan.selection);
  const Files files = files_by_kernel(plan);
  std::vector<Selected> selected(targets.size());
  std::unordered_map<std::string, std::vector<std::size_t>> by_identity;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (matcher.matches(targets[i])) {
      selected[i] = with_file(targets[i], files);
      by_identity[targets[i].identity].push_back(i);
    }
  }
  for (const auto& [identity, shown] : by_identity) {
    if (shown.size() > 1) {
      mark_duplicates(targets, shown, selected);
    }
  }
  return selected;
}

}  // namespace vpatch::rollout

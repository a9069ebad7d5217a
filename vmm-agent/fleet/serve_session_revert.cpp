// SPDX-License-Identifier: Apache-2.0
// Taking a rollout's livepatch back, so that what was in force before is in force again.
#include <algorithm>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/fleet/serve_session.h"
#include "vmm-agent/fleet/session_limits.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using rollout::Finished;

bool has(const GuestLook& guest, const std::string& patch) {
  return std::ranges::find(guest.patches, patch, &GuestLook::Patch::name) != guest.patches.end();
}

const std::vector<LivepatchFile> kNothing;
const std::string kNoFile;

/// Names of livepatches that neither the rollout nor what it replaced has brought.
std::vector<std::string> strangers(const GuestLook& guest, const std::string& ours,
                                   const std::vector<LivepatchFile>& former) {
  std::vector<std::string> names;
  for (const GuestLook::Patch& patch : guest.patches) {
    if (patch.name != ours &&
        std::ranges::find(former, patch.name, &LivepatchFile::name) == former.end()) {
      names.push_back(patch.name);
    }
  }
  return names;
}

bool is_cumulative(const LivepatchFile& file) {
  return file.contents && file.contents->replace.value_or(false);
}

Finished finished_of(const VerbAnswer& answer) {
  return {.outcome = outcome_of_change(answer), .text = answer.text};
}

}  // namespace

ServeSession::Task<> ServeSession::do_revert(Work& work, rollout::OperationId operation) {
  Finished finished = co_await take_back(work);
  finished.domain = work.domain;
  finished.operation = operation;
  events_.answer(finished);
}

ServeSession::Task<Finished> ServeSession::take_back(Work& work) {
  std::vector<LivepatchFile> former;
  for (const std::string& sha256 : domain(work.domain).former) {
    auto bytes = files_.read(sha256);
    auto file = bytes ? parse_livepatch(*std::move(bytes), sha256)
                      : Result<LivepatchFile>(std::unexpected(bytes.error()));
    if (!file) {
      co_return Finished{.outcome = Outcome::refused, .text = file.error().what};
    }
    former.push_back(*std::move(file));
  }
  const GuestLook guest = co_await look_at(work, false);
  if (guest.off) {
    co_return co_await forget(work, former, "it does not run");
  }
  if (!guest.read) {
    co_return Finished{.outcome = Outcome::unreachable, .text = guest.text};
  }
  const std::string& ours = file_of(work.domain).patch;
  const bool in_force = has(guest, ours);
  const auto others = strangers(guest, ours, former);
  if (!in_force && !others.empty()) {
    std::string why = fmt::format("{} is in force by now, and left alone", fmt::join(others, ", "));
    co_return co_await forget(work, kNothing, std::move(why));
  }
  std::vector<LivepatchFile> missing;
  for (LivepatchFile& file : former) {
    if (!has(guest, file.name)) {
      missing.push_back(std::move(file));
    }
  }
  if (!in_force && missing.empty()) {
    co_return co_await forget(work, kNothing, ours + " is not in force");
  }
  co_return co_await put_back(work, missing, in_force);
}

/// Without a change to the guest: `ensure` brings what was before, and not the rollout's livepatch.
ServeSession::Task<Finished> ServeSession::forget(Work& work,
                                                  const std::vector<LivepatchFile>& former,
                                                  std::string why) {
  json::object params;
  params["patch"] = file_of(work.domain).patch;
  const VerbAnswer forgotten = co_await call(work, "forget", std::move(params));
  if (!forgotten.done() && !has_finding(forgotten.report, "not-registered")) {
    co_return finished_of(forgotten);
  }
  if (!plan_.persist) {
    co_return Finished{.outcome = Outcome::done, .text = std::move(why)};
  }
  for (const LivepatchFile& file : former) {
    if (const VerbAnswer answer = co_await register_file(work, file.sha256); !answer.done()) {
      co_return finished_of(answer);
    }
  }
  co_return Finished{.outcome = Outcome::done, .text = std::move(why)};
}

ServeSession::Task<Finished> ServeSession::put_back(Work& work,
                                                    const std::vector<LivepatchFile>& missing,
                                                    bool ours_in_force) {
  json::array persistent = options_of("revert");
  if (plan_.persist) {
    persistent.emplace_back("--persist");
  }
  auto next = missing.begin();
  VerbAnswer answer{.outcome = Outcome::done};
  bool out = !ours_in_force;
  if (out) {
    // It has gone with a reboot, say; `ensure` would bring it back all the same.
    Finished forgotten = co_await forget(work, kNothing, "");
    if (forgotten.outcome != Outcome::done) {
      co_return forgotten;
    }
  }
  if (!out && next != missing.end() && is_cumulative(*next)) {
    json::object params;
    params["options"] = persistent;
    answer = co_await change(work, "revert", std::move(params), next->sha256);
    out = answer.outcome != Outcome::refused;
    next += out ? 1 : 0;
  }
  if (!out) {
    // What may not take its place (an older state, say) may still come after it.
    json::object params;
    params["options"] = options_of("revert");
    params["patch"] = file_of(work.domain).patch;
    answer = co_await change(work, "revert", std::move(params), kNoFile);
  }
  persistent.emplace_back("--allow-stacking");
  for (; answer.done() && next != missing.end(); ++next) {
    json::object params;
    params["options"] = persistent;
    answer = co_await change(work, "apply", std::move(params), next->sha256);
  }
  co_return finished_of(answer);
}

}  // namespace vpatch::fleet

// SPDX-License-Identifier: Apache-2.0
// What a rollback will have to put back is kept before anything takes its place.
#include <algorithm>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "qmp/base64.h"
#include "vmm-agent/fleet/serve_session.h"
#include "vmm-agent/fleet/session_limits.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::fleet {

namespace json = boost::json;

/// Fetches a file that this host's journal does not have. Empty, or why it cannot be had.
ServeSession::Task<std::string> ServeSession::fetch(Work& work, const std::string& sha256) {
  if (files_.read(sha256)) {
    co_return "";
  }
  json::object params;
  params["sha256"] = sha256;
  const auto reply = co_await request(work, "get_file", std::move(params));
  if (!reply) {
    co_return reply.error().what;
  }
  const auto bytes = qmp::base64_decode(text_member(*reply, "data"));
  if (!bytes) {
    co_return "the answer is no base64";
  }
  const auto kept = files_.keep(sha256, std::as_bytes(std::span(*bytes)));
  co_return kept ? "" : kept.error().what;
}

/// The files registered for the domain, in their order: all, or `only` those of these livepatches,
/// which leave that list.
ServeSession::Task<std::vector<std::string>> ServeSession::keep_registered(
    Work& work, std::vector<std::string>* only) {
  std::vector<std::string> former;
  const VerbAnswer answer = co_await call(work, "registered", json::object());
  std::size_t tries = 0;
  for (const json::value& each : array_member(answer.report, "registrations")) {
    const json::object* registration = each.if_object();
    if (registration == nullptr || ++tries > kMostRegistered || former.size() >= kMostFormer) {
      continue;
    }
    const std::string patch = text_member(*registration, "patch");
    const std::string sha256 = text_member(*registration, "file_sha256");
    if (std::ranges::find(former, sha256) != former.end()) {
      continue;
    }
    const auto wanted =
        only == nullptr ? std::vector<std::string>::iterator() : std::ranges::find(*only, patch);
    if (only != nullptr && wanted == only->end()) {
      continue;
    }
    const std::string why = co_await fetch(work, sha256);
    if (why.empty()) {
      former.push_back(sha256);
      if (only != nullptr) {
        only->erase(wanted);
      }
    } else if (only == nullptr) {
      events_.progress(work.domain, "warning",
                       fmt::format("{} is registered, and its file cannot be had: a rollback could "
                                   "not register it again: {}",
                                   serve::printable(patch, kLongestShown), why));
    }
  }
  co_return former;
}

/// The registered files of the livepatches now in force.
ServeSession::Task<std::vector<std::string>> ServeSession::keep_former(Work& work,
                                                                       const GuestLook& guest) {
  const auto& known = domain(work.domain).former;
  if (!known.empty()) {
    co_return known;  // of an earlier attempt, whose livepatch may have replaced them
  }
  std::vector<std::string> without;
  for (const GuestLook::Patch& patch : guest.patches) {
    if (patch.name != file_of(work.domain).patch) {
      without.push_back(patch.name);
    }
  }
  if (without.empty()) {
    co_return std::vector<std::string>{};
  }
  auto former = co_await keep_registered(work, &without);
  for (const std::string& patch : without) {
    events_.progress(work.domain, "warning",
                     fmt::format("{} is in force, and its file is not registered: a rollback "
                                 "could not put it back",
                                 patch));
  }
  co_return former;
}

// Domains that are off.

void ServeSession::leave_to_ensure(rollout::DomainId domain) {
  run_aside(do_leave_to_ensure(domain));
}

ServeSession::Task<> ServeSession::do_leave_to_ensure(rollout::DomainId domain) {
  Work work{.domain = domain};
  const bool registered = co_await register_ours(work);
  events_.left(domain, registered);
}

/// A cumulative livepatch takes the place of what is registered: that is kept first. Whether ours
/// is registered now, or need not be.
ServeSession::Task<bool> ServeSession::register_ours(Work& work) {
  if (!plan_.persist || file_of(work.domain).sha256.empty()) {
    co_return true;
  }
  if (!domain(work.domain).mark) {  // the first time: afterwards ours is among them
    const auto former = co_await keep_registered(work, nullptr);
    if (!events_.mark(work.domain, HealthMark(), former)) {
      co_return false;  // it could not be journaled, and the rollout ends
    }
  }
  const VerbAnswer answer = co_await register_file(work, file_of(work.domain).sha256);
  events_.progress(work.domain, answer.done() ? "step" : "warning", answer.text);
  co_return answer.done();
}

ServeSession::Task<VerbAnswer> ServeSession::register_file(Work& work, const std::string& sha256) {
  if (std::string why = co_await put_file(work, sha256); !why.empty()) {
    co_return VerbAnswer{.outcome = Outcome::refused, .text = std::move(why)};
  }
  json::object params;
  params["file"] = sha256;
  co_return co_await call(work, "register", std::move(params));
}

}  // namespace vpatch::fleet

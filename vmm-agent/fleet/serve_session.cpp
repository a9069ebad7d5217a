// SPDX-License-Identifier: Apache-2.0
// The requests that look at a guest, patch it and watch its health; what was there
// before is kept in serve_session_former.cpp, and put back in serve_session_revert.cpp.
#include "vmm-agent/fleet/serve_session.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "qmp/base64.h"
#include "vmm-agent/fleet/host_check.h"
#include "vmm-agent/fleet/session_limits.h"

namespace vpatch::fleet {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using Health = rollout::HealthVerdict::Health;
using rollout::Finished;
using rollout::Looked;
using rollout::OperationId;

json::object mark_params(const HealthMark& mark) {
  return {{"boot_id", mark.boot_id}, {"log_sequence", mark.log_sequence}, {"taint", mark.taint}};
}

const GuestLook::Patch* find_patch(const GuestLook& guest, const std::string& name) {
  const auto found = std::ranges::find(guest.patches, name, &GuestLook::Patch::name);
  return found == guest.patches.end() ? nullptr : &*found;
}

/// Whether this very build is in force.
bool has_in_force(const GuestLook& guest, const RolloutFile& file) {
  const GuestLook::Patch* const patch = find_patch(guest, file.patch);
  return patch != nullptr && patch->in_force && patch->build_id == file.build_id;
}

}  // namespace

ServeSession::ServeSession(const asio::any_io_executor& executor, const HostCommand& host,
                           const rollout::Plan& plan, const StoredRollout& rollout,
                           FileAccess files, SessionEvents events)
    : executor_(executor),
      connection_(host.connection),
      plan_(plan),
      rollout_(rollout),
      files_(std::move(files)),
      events_(std::move(events)),
      client_(executor, host.words, {.vpatch = rollout.begin.vpatch_version},
              {.connected =
                   [this](const std::string&) {
                     files_there_.clear();
                     events_.up();
                   },
               .progress =
                   [this](const serve::Client::Progress& progress) {
                     const auto found = domain_of_request_.find(progress.request);
                     if (found != domain_of_request_.end()) {
                       events_.progress(found->second, progress.kind, progress.text);
                     }
                   },
               .lost = [this](const Error& error) { events_.lost(error.what); }}) {}

void ServeSession::start(rollout::DomainId domain, OperationId operation, Task<> task) {
  works_[operation].domain = domain;
  asio::co_spawn(executor_, std::move(task), [this, operation](const std::exception_ptr& error) {
    works_.erase(operation);
    try {
      if (error) {
        std::rethrow_exception(error);
      }
    } catch (const ConnectionGone&) {
      return;  // who awaits this was told by `lost`
    }
  });
}

void ServeSession::look(rollout::DomainId domain, OperationId operation) {
  start(domain, operation, do_look(works_[operation], operation));
}

void ServeSession::apply(rollout::DomainId domain, OperationId operation) {
  start(domain, operation, do_apply(works_[operation], operation));
}

void ServeSession::check_health(rollout::DomainId domain, OperationId operation) {
  start(domain, operation, do_check(works_[operation], operation));
}

void ServeSession::revert(rollout::DomainId domain, OperationId operation) {
  start(domain, operation, do_revert(works_[operation], operation));
}

void ServeSession::cancel(OperationId operation) {
  const auto found = works_.find(operation);
  if (found == works_.end()) {
    return;
  }
  found->second.stop.request_stop();
  if (found->second.request != 0) {
    client_.cancel(found->second.request);
  }
}

const RolloutFile& ServeSession::file_of(rollout::DomainId id) const {
  static const RolloutFile kNone;
  const auto& file = domain(id).file;
  return file && *file < rollout_.begin.files.size() ? rollout_.begin.files[*file] : kNone;
}

ServeSession::Task<serve::Client::Reply> ServeSession::request(Work& work, std::string method,
                                                               json::object params) {
  if (work.stop.stop_requested()) {
    co_return fail(Outcome::refused, "it was cancelled before it was begun");
  }
  const auto limit = limit_of(method, plan_);
  auto send = [this, &work, &method, &params, limit](auto handler) {
    work.request = client_.call(method, std::move(params), limit,
                                [handler = std::move(handler)](serve::Client::Reply reply) mutable {
                                  std::move(handler)(std::move(reply));
                                });
    domain_of_request_[work.request] = work.domain;
  };
  auto reply =
      co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(serve::Client::Reply)>(
          std::move(send), asio::use_awaitable);
  domain_of_request_.erase(std::exchange(work.request, 0));
  if (!reply && !client_.is_connected()) {
    throw ConnectionGone();
  }
  co_return reply;
}

ServeSession::Task<VerbAnswer> ServeSession::call(Work& work, std::string method,
                                                  json::object params) {
  params["connection"] = connection_;
  params["domain"] = domain(work.domain).identity;
  VerbAnswer answer = answer_of(co_await request(work, std::move(method), std::move(params)));
  // Whom it is about is said beside it wherever it is shown.
  const std::string prefix = domain(work.domain).name + ": ";
  if (answer.text.starts_with(prefix)) {
    answer.text.erase(0, prefix.size());
  }
  co_return answer;
}

ServeSession::Task<GuestLook> ServeSession::look_at(Work& work, bool against_mark) {
  json::object params;
  const auto& mark = domain(work.domain).mark;
  if (against_mark && mark) {
    params["mark"] = mark_params(*mark);
  }
  const VerbAnswer answer = co_await call(work, "health", std::move(params));
  if (against_mark) {
    events_.report(work.domain, RolloutStore::ReportKind::health, answer.report);
  }
  co_return guest_of(answer);
}

ServeSession::Task<> ServeSession::do_look(Work& work, OperationId operation) {
  const GuestLook guest = co_await look_at(work, false);
  Looked looked{.domain = work.domain, .operation = operation, .text = guest.text};
  if (guest.off) {
    looked.guest = Looked::Guest::off;
  } else if (!guest.read || guest.held) {
    looked.guest = Looked::Guest::unreachable;
  } else if (guest.busy) {
    looked.guest = Looked::Guest::pending;
  } else {
    looked.guest =
        has_in_force(guest, file_of(work.domain)) ? Looked::Guest::in_force : Looked::Guest::absent;
  }
  if (looked.guest == Looked::Guest::in_force && plan_.persist) {
    // What loaded it may have been killed before it had registered it.
    const VerbAnswer answer = co_await register_file(work, file_of(work.domain).sha256);
    if (!answer.done()) {
      events_.progress(work.domain, "warning", answer.text);
    }
  }
  events_.answer(looked);
}

// The apply.

ServeSession::Task<std::string> ServeSession::put_file(Work& work, const std::string& sha256) {
  if (files_there_.contains(sha256)) {
    co_return "";
  }
  const auto bytes = files_.read(sha256);
  if (!bytes) {
    co_return bytes.error().what;
  }
  json::object params;
  params["sha256"] = sha256;
  params["data"] = qmp::base64_encode(*bytes);
  const auto reply = co_await request(work, "put_file", std::move(params));
  if (!reply) {
    co_return reply.error().what;
  }
  files_there_.insert(sha256);
  co_return "";
}

ServeSession::Task<VerbAnswer> ServeSession::change(Work& work, std::string method,
                                                    json::object params,
                                                    const std::string& sha256) {
  if (!sha256.empty()) {
    if (std::string why = co_await put_file(work, sha256); !why.empty()) {
      co_return VerbAnswer{.outcome = Outcome::refused, .text = std::move(why)};
    }
    params["file"] = sha256;
  }
  const auto kind =
      method == "revert" ? RolloutStore::ReportKind::revert : RolloutStore::ReportKind::apply;
  VerbAnswer answer = co_await call(work, std::move(method), std::move(params));
  events_.report(work.domain, kind, answer.report);
  co_return answer;
}

ServeSession::Task<> ServeSession::do_apply(Work& work, OperationId operation) {
  Finished finished = co_await apply_livepatch(work);
  finished.domain = work.domain;
  finished.operation = operation;
  if (finished.found == Finished::Found::off) {
    co_await register_ours(work);
  }
  events_.answer(finished);
}

ServeSession::Task<Finished> ServeSession::apply_livepatch(Work& work) {
  const GuestLook guest = co_await look_at(work, false);
  if (guest.off) {
    co_return Finished{.outcome = Outcome::done,
                       .text = "it does not run; `vpatch ensure` is for it",
                       .found = Finished::Found::off};
  }
  if (guest.health == Health::fail) {
    co_return Finished{.outcome = Outcome::refused,
                       .text = "it was not healthy before: " + guest.text};
  }
  if (guest.health == Health::inconclusive) {
    co_return Finished{.outcome = Outcome::unreachable, .text = guest.text};
  }
  const RolloutFile& file = file_of(work.domain);
  const bool was_in_force = has_in_force(guest, file);
  const auto former = co_await keep_former(work, guest);
  if (!events_.mark(work.domain, guest.mark, former)) {
    co_return Finished{.outcome = Outcome::refused, .text = "the journal does not take its mark"};
  }
  json::object params;
  params["options"] = options_of("apply");
  const VerbAnswer answer = co_await change(work, "apply", std::move(params), file.sha256);
  co_return Finished{.outcome = outcome_of_change(answer),
                     .text = answer.text,
                     .found = was_in_force && answer.done() ? Finished::Found::in_force
                                                            : Finished::Found::nothing_special};
}

json::array ServeSession::options_of(std::string_view method) const {
  json::array options;
  for (const std::string& word : plan_.apply_options) {
    if (method == "apply" || is_option_of_revert(word)) {
      options.emplace_back(word);
    }
  }
  if (plan_.persist && method == "apply") {
    options.emplace_back("--persist");
    // The rollout itself watches longer, and all others meanwhile.
    if (std::ranges::none_of(plan_.apply_options, [](const std::string& word) {
          return word.starts_with("--settle");
        })) {
      options.emplace_back("--settle=0s");
    }
  }
  return options;
}

// Health.

ServeSession::Task<> ServeSession::do_check(Work& work, OperationId operation) {
  rollout::HealthVerdict verdict = co_await check_all(work);
  verdict.domain = work.domain;
  verdict.operation = operation;
  events_.answer(verdict);
}

ServeSession::Task<rollout::HealthVerdict> ServeSession::check_all(Work& work) {
  using Verdict = rollout::HealthVerdict;
  const GuestLook guest = co_await look_at(work, true);
  if (guest.off) {
    co_return Verdict{.health = Health::fail, .text = "it does not run any more"};
  }
  if (guest.health != Health::pass) {
    co_return Verdict{.health = guest.health, .text = guest.text};
  }
  const RolloutDomain& about = domain(work.domain);
  const RolloutFile& file = file_of(work.domain);
  if (!has_in_force(guest, file)) {
    co_return Verdict{.health = Health::fail, .text = file.patch + " is no longer in force"};
  }
  for (const rollout::HealthCommand& check : plan_.checks) {
    const auto words = words_of_check(check.argv, about.name, about.identity, about.connection);
    Verdict verdict;
    if (check.in_guest) {
      json::object command;
      command["argv"] = json::array(words.begin(), words.end());
      command["timeout_ms"] = std::chrono::milliseconds(check.timeout).count();
      json::object params;
      params["command"] = std::move(command);
      const VerbAnswer answer = co_await call(work, "health", std::move(params));
      const GuestLook after = guest_of(answer);
      verdict = {.health = after.health, .text = after.text};
    } else {
      verdict = co_await run_host_check(executor_, words, check.timeout, work.stop.get_token());
    }
    if (verdict.health != Health::pass) {
      verdict.text = fmt::format("check {}: {}", check.name, verdict.text);
      co_return verdict;
    }
  }
  co_return Verdict{.health = Health::pass, .text = guest.text};
}

void ServeSession::run_aside(Task<> task) {
  asio::co_spawn(executor_, std::move(task), [](const std::exception_ptr& error) {
    try {
      if (error) {
        std::rethrow_exception(error);
      }
    } catch (const ConnectionGone&) {
      return;  // `lost` has told
    }
  });
}

// What would be.

void ServeSession::preview(rollout::DomainId domain,
                           std::function<void(const VerbAnswer&)> answered) {
  run_aside(do_preview(domain, std::move(answered)));
}

ServeSession::Task<> ServeSession::do_preview(rollout::DomainId domain,
                                              std::function<void(const VerbAnswer&)> answered) {
  Work work{.domain = domain};
  const std::string& sha256 = file_of(domain).sha256;
  if (std::string why = co_await put_file(work, sha256); !why.empty()) {
    answered(VerbAnswer{.outcome = Outcome::refused, .text = std::move(why)});
    co_return;
  }
  json::array options;
  for (const std::string& word : plan_.apply_options) {
    options.emplace_back(word);
  }
  options.emplace_back("--dry-run");
  json::object params;
  params["file"] = sha256;
  params["options"] = std::move(options);
  answered(co_await call(work, "apply", std::move(params)));
}

}  // namespace vpatch::fleet

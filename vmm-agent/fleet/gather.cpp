// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/gather.h"

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/fleet/host_command.h"
#include "vmm-agent/fleet/verb_answer.h"
#include "vmm-agent/rollout/waves.h"
#include "vmm-agent/serve/client.h"

namespace vpatch::fleet {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using rollout::Choice;
using rollout::DomainState;

/// Hosts that are asked at one time.
constexpr std::size_t kAtOnce = 32;
/// For one host's list: it looks into the memory of each of its domains.
constexpr std::chrono::minutes kListLimit{3};
constexpr std::chrono::milliseconds kTurn{100};
/// Of one host. More are no truth, and would make the budget, a part of the fleet, mean nothing.
constexpr std::size_t kMostDomains = 10'000;
// What a domain may be called, in bytes, and in how many groups it is.
constexpr std::size_t kLongestName = 255;
constexpr std::size_t kMostGroups = 64;

/// Asks one host for its domains.
struct Inquiry {
  std::string connection;
  std::unique_ptr<serve::Client> client{};
  bool ended = false;
  std::string error{};
  std::vector<ListedDomain> domains{};

  void end(std::string why) {
    if (!std::exchange(ended, true)) {
      error = std::move(why);
    }
  }

  void listed(serve::Client::Reply reply) {
    VerbAnswer answer = answer_of(std::move(reply));
    if (!answer.done()) {
      return end(std::move(answer.text));
    }
    domains = domains_of(answer.report, connection);
    if (domains.size() > kMostDomains) {
      return end(fmt::format("it lists more than {} domains", kMostDomains));
    }
    end("");
  }
};

Result<void> ask(Inquiry& inquiry, const asio::any_io_executor& executor,
                 const GatherOptions& options) {
  auto host = host_command(inquiry.connection, options.vpatch);
  if (!host) {
    return std::unexpected(std::move(host.error()));
  }
  inquiry.client = std::make_unique<serve::Client>(
      executor, host->words, serve::ClientOptions{.vpatch = options.version},
      serve::Client::Handlers{.connected =
                                  [&inquiry, here = host->connection](const std::string&) {
                                    json::object params;
                                    params["connection"] = here;
                                    inquiry.client->call("list", std::move(params), kListLimit,
                                                         [&inquiry](serve::Client::Reply reply) {
                                                           inquiry.listed(std::move(reply));
                                                         });
                                  },
                              .progress = {},
                              .lost = [&inquiry](const Error& error) { inquiry.end(error.what); }});
  inquiry.client->connect();
  return {};
}

Result<std::deque<Inquiry>> ask_all(const rollout::Plan& plan, const GatherOptions& options) {
  asio::io_context context;  // outlives the clients
  const asio::any_io_executor executor(context.get_executor());
  std::deque<Inquiry> inquiries;
  for (const std::string& connection : plan.selection.connections) {
    inquiries.push_back({.connection = connection});
  }
  std::size_t begun = 0;
  for (;;) {
    const auto asked = static_cast<std::size_t>(std::ranges::count_if(
        inquiries, [](const Inquiry& each) { return each.client && !each.ended; }));
    for (std::size_t free = kAtOnce - asked; free > 0 && begun < inquiries.size(); --free) {
      if (auto done = ask(inquiries[begun++], executor, options); !done) {
        return std::unexpected(std::move(done.error()));
      }
    }
    for (Inquiry& inquiry : inquiries) {
      if (inquiry.ended) {
        inquiry.client.reset();
      }
    }
    const auto ended = std::ranges::count_if(inquiries, &Inquiry::ended);
    if (options.progress) {
      options.progress(
          fmt::format("{} of {} hosts have listed their domains", ended, inquiries.size()));
    }
    if (static_cast<std::size_t>(ended) == inquiries.size()) {
      break;
    }
    if (options.stop.stop_requested()) {
      return fail(Outcome::refused, "interrupted before any guest was touched");
    }
    context.restart();
    context.run_for(kTurn);
  }
  return inquiries;
}

Result<std::vector<LivepatchFile>> read_files(const rollout::Plan& plan) {
  std::vector<LivepatchFile> files;
  for (const rollout::PlannedFile& planned : plan.files) {
    auto file = read_livepatch(planned.file);
    if (!file) {
      return std::unexpected(std::move(file.error()));
    }
    // A build id is of one kernel as well, but tells nothing of its release.
    const bool by_release = planned.kernel.find('.') != std::string::npos;
    if (by_release && planned.kernel != file->release) {
      return fail(Outcome::refused,
                  fmt::format("{} is for kernel {}, and planned for {}", planned.file.string(),
                              file->release, planned.kernel),
                  "Name the kernel that the file was built for (vpatch inspect shows it).");
    }
    files.push_back(*std::move(file));
  }
  return files;
}

/// The file of a domain that does not run: by the kernel that it ran last, or the only one there
/// is. Whether it fits is asked again before it is loaded.
std::optional<std::size_t> file_when_off(const rollout::Plan& plan,
                                         const std::string& last_release) {
  for (std::size_t i = 0; i < plan.files.size(); ++i) {
    if (!last_release.empty() && plan.files[i].kernel == last_release) {
      return i;
    }
  }
  return last_release.empty() && plan.files.size() == 1 ? std::optional<std::size_t>(0)
                                                        : std::nullopt;
}

RolloutDomain domain_of(const ListedDomain& listed) {
  return {.connection = listed.target.connection,
          .name = listed.target.name,
          .identity = listed.target.identity,
          .release = listed.target.kernel_release};
}

/// The domains that the rollout reports, and does nothing with.
void add_left_out(const rollout::Plan& plan, const std::vector<ListedDomain>& domains,
                  const std::vector<rollout::Selected>& selected, Gathered& gathered) {
  const auto last_wave = static_cast<std::uint32_t>(plan.waves.size());
  for (std::size_t i = 0; i < domains.size(); ++i) {
    const Choice choice = selected[i].choice;
    if (choice == Choice::chosen || choice == Choice::not_selected) {
      continue;
    }
    if (choice == Choice::duplicate) {
      gathered.warnings.push_back(fmt::format("{} of {} is left out: {}", domains[i].target.name,
                                              domains[i].target.connection, selected[i].why));
      continue;
    }
    RolloutDomain domain = domain_of(domains[i]);
    domain.wave = last_wave;
    domain.record.state = choice == Choice::off ? DomainState::off : DomainState::unmatched;
    domain.record.text = selected[i].why;
    if (choice == Choice::off) {
      domain.file = file_when_off(plan, domains[i].last_release);
      domain.record.touched =
          domain.file && plan.persist;  // `ensure` brings it: a rollback ends that
    }
    gathered.rollout.domains.push_back(std::move(domain));
  }
}

Result<void> leave_out(const std::vector<std::string>& silent, const GatherOptions& options,
                       std::vector<std::string>& warnings) {
  if (silent.empty()) {
    return {};
  }
  if (!options.skip_unreachable) {
    return fail(Outcome::unreachable,
                fmt::format("no list of domains: {}", fmt::join(silent, "; ")),
                "Mend the connection, take it out of the plan, or go on without it: "
                "--skip-unreachable.");
  }
  for (const std::string& each : silent) {
    warnings.push_back(fmt::format("left out: {}", each));
  }
  return {};
}

}  // namespace

std::vector<ListedDomain> domains_of(const json::object& report, const std::string& connection) {
  std::vector<ListedDomain> domains;
  for (const json::value& each : array_member(report, "domains")) {
    const json::object* entry = each.if_object();
    if (entry == nullptr) {
      continue;
    }
    ListedDomain domain{.target = {.connection = connection,
                                   .name = text_member(*entry, "name"),
                                   .identity = text_member(*entry, "identity"),
                                   .groups = {},
                                   .kernel_release = text_member(*entry, "release"),
                                   .build_id = text_member(*entry, "build_id"),
                                   .running = flag_member(*entry, "running")},
                        .last_release = text_member(*entry, "last_release")};
    for (const json::value& group : array_member(*entry, "groups")) {
      const json::string* const name = group.if_string();
      if (name != nullptr && name->size() <= kLongestName &&
          domain.target.groups.size() < kMostGroups) {
        domain.target.groups.emplace_back(name->data(), name->size());
      }
    }
    const rollout::Target& target = domain.target;
    const bool bounded = std::ranges::all_of(
        std::array<std::string_view, 5>{target.name, target.identity, target.kernel_release,
                                        target.build_id, domain.last_release},
        [](std::string_view text) { return text.size() <= kLongestName; });
    if (bounded && !target.name.empty() && !target.identity.empty()) {
      domains.push_back(std::move(domain));
    }
  }
  return domains;
}

Result<Gathered> arrange(const rollout::Plan& plan, std::vector<LivepatchFile> files,
                         const std::vector<ListedDomain>& domains, const GatherOptions& options) {
  std::vector<rollout::Target> targets;
  targets.reserve(domains.size());
  for (const ListedDomain& domain : domains) {
    targets.push_back(domain.target);
  }
  const auto selected = rollout::select(plan, targets);
  const auto waves = rollout::make_waves(plan, targets, selected, options.seed);
  if (!waves) {
    return std::unexpected(waves.error());
  }
  Gathered gathered;
  NewRollout& rollout = gathered.rollout;
  rollout = {.name = plan.name,
             .plan = rollout::to_yaml(plan),
             .seed = options.seed,
             .vpatch_version = options.version};
  for (std::size_t i = 0; i < files.size(); ++i) {
    rollout.files.push_back({.path = plan.files[i].file.string(),
                             .sha256 = files[i].sha256,
                             .patch = files[i].name,
                             .build_id = files[i].build_id,
                             .release = files[i].release});
  }
  gathered.files = std::move(files);
  std::uint32_t wave = 0;
  const auto add_wave = [&](const std::vector<std::size_t>& places) {
    for (const std::size_t place : places) {
      RolloutDomain domain = domain_of(domains[place]);
      domain.wave = wave;
      domain.file = selected[place].file;
      rollout.domains.push_back(std::move(domain));
    }
    ++wave;
  };
  add_wave(waves->canary);
  std::ranges::for_each(waves->waves, add_wave);
  if (rollout.domains.empty()) {
    return fail(Outcome::refused, "the plan takes no domain that runs a kernel it has a file for",
                "--dry-run with -v, or `vpatch serve --list`, shows what there is.");
  }
  add_left_out(plan, domains, selected, gathered);
  return gathered;
}

Result<Gathered> gather(const rollout::Plan& plan, const GatherOptions& options) {
  auto files = read_files(plan);
  if (!files) {
    return std::unexpected(std::move(files.error()));
  }
  auto inquiries = ask_all(plan, options);
  if (!inquiries) {
    return std::unexpected(std::move(inquiries.error()));
  }
  std::vector<std::string> silent;
  std::vector<ListedDomain> domains;
  for (Inquiry& inquiry : *inquiries) {
    if (!inquiry.error.empty()) {
      silent.push_back(fmt::format("{}: {}", inquiry.connection, inquiry.error));
    }
    std::ranges::move(inquiry.domains, std::back_inserter(domains));
  }
  std::vector<std::string> warnings;
  if (auto done = leave_out(silent, options, warnings); !done) {
    return std::unexpected(std::move(done.error()));
  }
  auto gathered = arrange(plan, *std::move(files), domains, options);
  if (gathered) {
    gathered->warnings.insert(gathered->warnings.begin(), warnings.begin(), warnings.end());
  }
  return gathered;
}

}  // namespace vpatch::fleet

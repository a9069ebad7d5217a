// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/rollout_drive.h"
#include "vmm-agent/cli/rollout_lock.h"
#include "vmm-agent/cli/rollout_preview.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/fleet/gather.h"
#include "vmm-agent/fleet/rollout_report.h"
#include "vmm-agent/fleet/rollout_view.h"
#include "vmm-agent/fleet/rollout_words.h"
#include "vmm-agent/fleet/stored_summary.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/journal/now_utc.h"
#include "vmm-agent/journal/real_user.h"

namespace vpatch {
namespace {

namespace json = boost::json;
using fleet::RolloutStore;
using fleet::StoredRollout;

constexpr std::chrono::milliseconds kLookAgain{200};
/// For the process that drives a rollout to take a command.
constexpr std::chrono::seconds kTakeLimit{15};

class Rollouts {
 public:
  Rollouts(const Options& options, const Interrupt& interrupt)
      : options_(options),
        how_(options.rollout),
        interrupt_(interrupt),
        err_(!options.no_color && wants_color(stderr)),
        reporter_(err_, is_live(stderr), options.json ? Telling::nothing : Telling::text) {}

  Outcome run() {
    switch (how_.verb) {
      case RolloutVerb::start:
        return start();
      case RolloutVerb::list:
        return with_store([this](RolloutStore& store) { return list(store); });
      case RolloutVerb::status:
      case RolloutVerb::report:
        return with_rollout([this](RolloutStore& store, const StoredRollout& rollout) {
          return how_.verb == RolloutVerb::status ? status(store, rollout) : report(store, rollout);
        });
      case RolloutVerb::pause:
        return order(rollout::Command::Kind::pause);
      case RolloutVerb::resume:
        return order(rollout::Command::Kind::resume);
      case RolloutVerb::abort:
        return order(rollout::Command::Kind::abort);
      case RolloutVerb::rollback:
        return order(rollout::Command::Kind::rollback);
      case RolloutVerb::none:
        break;
    }
    return Outcome::usage;
  }

 private:
  Outcome print_error(const Error& error) {
    reporter_.finish();
    if (options_.json) {
      write_text(stdout, json::serialize(to_json(error, "rollout")) + "\n");
    } else {
      write_text(stderr, render(error, err_));
    }
    return error.outcome;
  }

  template <class Use>
  Outcome with_store(const Use& use) {
    auto store = RolloutStore::open(Journal::path());
    return store ? use(*store) : print_error(store.error());
  }

  /// Calls `use` with the rollout that was named, or else the one that has not finished.
  template <class Use>
  Outcome with_rollout(const Use& use) {
    return with_store([&](RolloutStore& store) {
      auto name = chosen_name(store);
      if (!name) {
        return print_error(name.error());
      }
      const auto loaded = store.load(*name);
      return loaded ? use(store, *loaded) : print_error(loaded.error());
    });
  }

  Result<std::string> chosen_name(RolloutStore& store) const {
    if (!how_.name.empty()) {
      return how_.name;
    }
    auto all = store.list();
    if (!all) {
      return std::unexpected(std::move(all.error()));
    }
    const auto is_open = [](const fleet::RolloutLine& line) { return !line.record.finished; };
    const auto open = std::ranges::count_if(*all, is_open);
    if (open == 1) {
      return std::ranges::find_if(*all, is_open)->name;
    }
    const bool looks = how_.verb == RolloutVerb::status || how_.verb == RolloutVerb::report;
    if (open == 0 && looks && !all->empty()) {
      return all->front().name;  // the newest
    }
    return fail(Outcome::refused,
                open == 0 ? std::string("there is no rollout that has not finished")
                          : fmt::format("{} rollouts have not finished", open),
                "Name one: `vpatch rollout list` shows them.");
  }

  // start

  Result<rollout::Plan> read_plan() const {
    std::string text;
    std::filesystem::path folder = std::filesystem::current_path();
    const std::filesystem::path here = folder;
    if (how_.plan == "-") {
      text.assign(std::istreambuf_iterator<char>(std::cin), {});
    } else if (!how_.plan.empty()) {
      std::ifstream file(how_.plan, std::ios::binary);
      text.resize(rollout::kLongestPlan + 1);
      file.read(text.data(), static_cast<std::streamsize>(text.size()));
      if (!file.is_open() || (file.bad() || file.gcount() == 0)) {
        return fail(Outcome::usage, fmt::format("{}: no plan can be read from it", how_.plan),
                    "docs/rollout.md tells what a plan is.");
      }
      text.resize(static_cast<std::size_t>(file.gcount()));
      folder = std::filesystem::absolute(how_.plan).parent_path();
    }
    auto plan = rollout::parse_plan(text, folder, how_.flags, here);
    if (!plan) {
      return std::unexpected(
          std::move(plan.error())
              .in_context(how_.plan.empty() ? "the plan of these flags" : how_.plan));
    }
    return plan;
  }

  Outcome start() {
    const auto plan = read_plan();
    if (!plan) {
      return print_error(plan.error());
    }
    auto store = RolloutStore::open(Journal::path());
    if (!store) {
      return print_error(store.error());
    }
    if (const auto taken = store->load(plan->name); taken && !how_.dry_run) {
      return print_error(taken_name(*taken));
    }
    auto gathered = gather(*plan, gather_options());
    if (!gathered) {
      return print_error(gathered.error());
    }
    reporter_.finish();
    for (const std::string& warning : gathered->warnings) {
      reporter_.warning(warning);
    }
    if (how_.dry_run) {
      const auto shown = show_preview(*plan, *gathered, options_, interrupt_);
      return shown ? *shown : print_error(shown.error());
    }
    return begin(*store, *plan, *gathered);
  }

  static Error taken_name(const StoredRollout& rollout) {
    return {Outcome::refused,
            fmt::format("there is a rollout {} already, started {}", rollout.begin.name,
                        rollout.started_at),
            rollout.record.finished
                ? std::string("Give this one another name (--name).")
                : fmt::format("`vpatch rollout resume {}` goes on with it.", rollout.begin.name)};
  }

  fleet::GatherOptions gather_options() {
    return {.vpatch = own_program(),
            .version = options_.version,
            .seed = random_seed(),
            .skip_unreachable = how_.skip_unreachable,
            .stop = interrupt_.token(),
            .progress = [this](const std::string& text) { reporter_.progress(text); }};
  }

  Outcome begin(RolloutStore& store, const rollout::Plan& plan, const fleet::Gathered& gathered) {
    // Once before there is a rollout, which needs them; and once when they can no longer be taken
    // for files that nobody needs.
    if (auto kept = keep_files(store, gathered); !kept) {
      return print_error(kept.error());
    }
    if (auto free = wait_for_others(store, plan, gathered.rollout); !free) {
      return print_error(free.error());
    }
    if (auto id = store.create(gathered.rollout); !id) {
      return print_error(id.error());
    }
    if (auto kept = keep_files(store, gathered); !kept) {
      return print_error(kept.error());
    }
    const auto rollout = store.load(plan.name);
    if (!rollout) {
      return print_error(rollout.error());
    }
    note(store, *rollout, "started", rollout->user);
    for (const std::string& warning : gathered.warnings) {
      note(store, *rollout, "left-out", warning);
    }
    auto lock = RolloutLock::acquire(*rollout);
    return lock ? drive(store, *rollout, {}) : print_error(lock.error());
  }

  static Result<void> keep_files(RolloutStore& store, const fleet::Gathered& gathered) {
    for (const LivepatchFile& file : gathered.files) {
      if (auto kept = store.keep_file(file.sha256, file.bytes); !kept) {
        return kept;
      }
    }
    return {};
  }

  /// For the timeline. What cannot be noted is no reason to stop: what matters is journaled apart.
  static void note(RolloutStore& store, const StoredRollout& rollout, std::string kind,
                   std::string text) {
    static_cast<void>(store.add_event(
        rollout.id,
        {.at = now_utc(), .domain = {}, .kind = std::move(kind), .text = std::move(text)}));
  }

  /// With `on_overlap: queue`.
  Result<void> wait_for_others(RolloutStore& store, const rollout::Plan& plan,
                               const fleet::NewRollout& rollout) {
    if (plan.on_overlap != rollout::OnOverlap::queue) {
      return {};  // create() refuses
    }
    std::vector<std::string> identities;
    identities.reserve(rollout.domains.size());
    for (const fleet::RolloutDomain& domain : rollout.domains) {
      identities.push_back(domain.identity);
    }
    for (;;) {
      const auto overlaps = store.overlaps(identities);
      if (!overlaps) {
        return std::unexpected(overlaps.error());
      }
      if (overlaps->empty()) {
        reporter_.finish();
        return {};
      }
      reporter_.progress(fmt::format("waiting for the end of rollout {}, which holds {}",
                                     overlaps->front().rollout, overlaps->front().domain));
      for (auto waited = kLookAgain; waited < std::chrono::seconds(2); waited += kLookAgain) {
        std::this_thread::sleep_for(kLookAgain);
        if (interrupt_.token().stop_requested()) {
          return fail(Outcome::refused, "interrupted before any guest was touched");
        }
      }
    }
  }

  // Commands.

  Outcome order(rollout::Command::Kind kind) {
    return with_rollout([&](RolloutStore& store, const StoredRollout& rollout) {
      if (auto wrong = cannot(kind, rollout)) {
        return print_error(*wrong);
      }
      const rollout::Command command{.kind = kind, .text = real_user() + reason()};
      const auto lock = RolloutLock::acquire(rollout);
      if (!lock) {
        return lock.error().outcome == Outcome::refused ? leave(store, rollout, command)
                                                        : print_error(lock.error());
      }
      // Loaded again: until the lock was ours, somebody else may have driven it.
      const auto now = store.load(rollout.begin.name);
      if (!now) {
        return print_error(now.error());
      }
      if (auto wrong = cannot(kind, *now)) {
        return print_error(*wrong);
      }
      // Of a rollout that nobody drives any more, and that was not paused, a resume accepts
      // nothing.
      const bool goes_on = kind == rollout::Command::Kind::resume && !now->record.paused;
      return drive(store, *now, goes_on ? std::nullopt : std::optional(command));
    });
  }

  static std::optional<Error> cannot(rollout::Command::Kind kind, const StoredRollout& rollout) {
    const std::string& name = rollout.begin.name;
    if (kind != rollout::Command::Kind::rollback && rollout.record.finished) {
      return Error{Outcome::refused, fmt::format("rollout {} has finished", name),
                   fmt::format("`vpatch rollout report {}` tells how it went.", name)};
    }
    if (kind == rollout::Command::Kind::resume &&
        rollout.record.course == rollout::Course::aborted) {
      return Error{Outcome::refused, fmt::format("rollout {} was aborted", name),
                   "Start another one, or roll this one back."};
    }
    return std::nullopt;
  }

  std::string reason() const { return how_.why.empty() ? "" : ": " + how_.why; }

  /// Leaves a command for the process that drives the rollout, and waits until it was taken.
  Outcome leave(RolloutStore& store, const StoredRollout& rollout,
                const rollout::Command& command) {
    const auto id = store.ask(rollout.id, command);
    if (!id) {
      return print_error(id.error());
    }
    for (auto waited = kLookAgain; waited < kTakeLimit; waited += kLookAgain) {
      const auto taken = store.was_taken(*id);
      if (!taken) {
        return print_error(taken.error());
      }
      if (*taken) {
        const auto now = store.load(rollout.begin.name);
        return now ? status(store, *now) : print_error(now.error());
      }
      if (const auto lock = RolloutLock::acquire(rollout); lock) {
        // That process has ended. What it left, this one takes, and goes on.
        const auto now = store.load(rollout.begin.name);
        const auto waits = store.commands(rollout.id);
        if (!now || !waits) {
          return print_error(now ? waits.error() : now.error());
        }
        return waits->empty() ? status(store, *now) : drive(store, *now, {});
      }
      if (interrupt_.token().stop_requested()) {
        return print_error({Outcome::refused, "interrupted; the command is left for that process"});
      }
      std::this_thread::sleep_for(kLookAgain);
    }
    return print_error({Outcome::unreachable,
                        fmt::format("the process that drives rollout {} does not take the command",
                                    rollout.begin.name),
                        "It will when it goes on; or end that process, and try again."});
  }

  Outcome drive(RolloutStore& store, const StoredRollout& rollout,
                const std::optional<rollout::Command>& command) {
    note(store, rollout, "driver", fmt::format("{} (process {})", real_user(), getpid()));
    const auto ended = drive_rollout(store, rollout, command, options_, interrupt_);
    return ended ? *ended : print_error(ended.error());
  }

  // Looking.

  Outcome list(RolloutStore& store) {
    const auto all = store.list();
    if (!all) {
      return print_error(all.error());
    }
    write_text(stdout, options_.json ? json::serialize(list_json(*all)) + "\n" : list_text(*all));
    return Outcome::done;
  }

  static json::object list_json(const std::vector<fleet::RolloutLine>& all) {
    json::array rollouts;
    for (const fleet::RolloutLine& line : all) {
      rollouts.push_back(json::object{
          {"name", line.name},
          {"started_at", line.started_at},
          {"ended_at", line.ended_at.empty() ? json::value() : json::value(line.ended_at)},
          {"user", line.user},
          {"course", rollout::to_string(line.record.course)},
          {"paused", line.record.paused},
          {"finished", line.record.finished},
          {"domains", counts_json(line.domains)}});
    }
    return {{"schema", 1}, {"verb", "rollout list"}, {"rollouts", std::move(rollouts)}};
  }

  static json::object counts_json(const rollout::StateCounts& counts) {
    json::object states;
    for (std::size_t i = 0; i < rollout::kDomainStates; ++i) {
      const auto state = static_cast<rollout::DomainState>(i);
      if (counts.of(state) > 0) {
        states[rollout::to_string(state)] = counts.of(state);
      }
    }
    return states;
  }

  static std::string list_text(const std::vector<fleet::RolloutLine>& all) {
    std::string text = all.empty() ? "no rollout yet\n" : "";
    for (const fleet::RolloutLine& line : all) {
      std::string counts;
      for (const auto& [state, count] : counts_json(line.domains)) {
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count.as_uint64(),
                              std::string_view(state));
      }
      text += fmt::format("{:24} {}  {:17} {}\n", harmless(line.name),
                          line.started_at.substr(0, 19), fleet::standing(line.record), counts);
    }
    return text;
  }

  Outcome status(RolloutStore& store, const StoredRollout& rollout) {
    if (options_.json) {
      return print_json_report(store, rollout, "rollout status");
    }
    const auto plan = rollout::parse_plan(rollout.begin.plan, "/");
    if (!plan) {
      return print_error(plan.error());
    }
    constexpr std::size_t kLines = 60;
    const bool color = !options_.no_color && wants_color(stdout);
    write_text(stdout, fleet::render_rollout(rollout, fleet::summary_of(*plan, rollout), {},
                                             wall_clock(), {terminal_width(), kLines, color}));
    return Outcome::done;
  }

  Outcome print_json_report(RolloutStore& store, const StoredRollout& rollout,
                            std::string_view verb) {
    const auto events = store.events(rollout.id);
    if (!events) {
      return print_error(events.error());
    }
    write_text(stdout, json::serialize(fleet::to_json(rollout, *events, verb)) + "\n");
    return Outcome::done;
  }

  Outcome report(RolloutStore& store, const StoredRollout& rollout) {
    if (options_.json) {
      return print_json_report(store, rollout, "rollout report");
    }
    const auto events = store.events(rollout.id);
    if (!events) {
      return print_error(events.error());
    }
    const std::string page = fleet::report_page(rollout, *events, wall_clock());
    if (how_.output == "-") {
      write_text(stdout, page);
      return Outcome::done;
    }
    const std::string path = how_.output.empty() ? rollout.begin.name + ".html" : how_.output;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << page;
    file.close();
    if (!file) {
      return print_error(
          {Outcome::refused, fmt::format("{}: the report cannot be written to it", path), ""});
    }
    write_text(stdout, fmt::format("the report is in {}\n", path));
    return Outcome::done;
  }

  const Options& options_;
  const RolloutOptions& how_;
  const Interrupt& interrupt_;
  Style err_;
  TerminalReporter reporter_;
};

}  // namespace

Outcome run_rollout(const Options& options, const Interrupt& interrupt) {
  return Rollouts(options, interrupt).run();
}

}  // namespace vpatch

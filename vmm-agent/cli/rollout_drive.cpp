// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout_drive.h"

#include <algorithm>
#include <array>
#include <random>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/fleet/driver.h"
#include "vmm-agent/fleet/rollout_view.h"
#include "vmm-agent/fleet/serve_session.h"
#include "vmm-agent/journal/real_user.h"

namespace vpatch {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using rollout::Course;
using rollout::DomainState;

constexpr std::chrono::milliseconds kTurn{100};
constexpr std::chrono::milliseconds kDrawEach{300};
/// For the answers of sessions that were closed.
constexpr std::chrono::milliseconds kLastWords{50};

winsize terminal_size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    size.ws_col = 100;
    size.ws_row = 40;
  }
  return size;
}

/// Shows a rollout while it is driven: on a terminal one view that is drawn anew, elsewhere lines.
class Show {
 public:
  explicit Show(const Options& options)
      : json_(options.json),
        live_(is_live(stdout) && !options.json),
        color_(!options.no_color && wants_color(stdout)) {}

  void event(const fleet::Driver& driver, const fleet::RolloutEvent& event) const {
    if (json_) {
      write_text(stdout, json::serialize(fleet::json_event(driver.rollout(), event)) + "\n");
    } else if (!live_) {
      write_text(stdout, fleet::plain_line(driver.rollout(), event));
    }
    if (!live_) {
      static_cast<void>(std::fflush(stdout));
    }
  }

  void draw(const fleet::Driver& driver) {
    const auto now = std::chrono::steady_clock::now();
    if (live_ && now >= next_) {
      next_ = now + kDrawEach;
      redraw(driver);
    }
  }

  void redraw(const fleet::Driver& driver) {
    if (!live_) {
      return;
    }
    const winsize size = terminal_size();
    const std::string view =
        fleet::render_rollout(driver.rollout(), driver.summary(), driver.doing(), driver.now(),
                              {size.ws_col, static_cast<std::size_t>(size.ws_row) - 1, color_});
    write_text(stdout, (lines_ > 0 ? fmt::format("\033[{}F\033[J", lines_) : "") + view);
    static_cast<void>(std::fflush(stdout));
    lines_ = std::ranges::count(view, '\n');
  }

 private:
  bool json_;
  bool live_;
  bool color_;
  std::ptrdiff_t lines_ = 0;
  std::chrono::steady_clock::time_point next_{};
};

/// How the rollout stands, as an exit code.
Outcome outcome_of(const rollout::Summary& summary) {
  const auto count = [&](DomainState state) { return summary.domains.of(state); };
  if (summary.rollout.finished) {
    if (count(DomainState::failed) > 0 || count(DomainState::inconclusive) > 0) {
      return Outcome::failed_needs_look;
    }
    return summary.rollout.course == Course::forward ? Outcome::done
           : summary.rollout.course == Course::back  ? Outcome::stalled_reverted
                                                     : Outcome::stalled_waiting;
  }
  return Outcome::stalled_waiting;
}

std::string closing_text(const fleet::StoredRollout& rollout, const rollout::Summary& summary) {
  const std::string& name = rollout.begin.name;
  if (!summary.rollout.finished) {
    return fmt::format(
        "rollout {} {}; `vpatch rollout resume {}` goes on, `vpatch rollout "
        "rollback {}` takes it back\n",
        name, summary.rollout.paused ? "is paused" : "was interrupted", name, name);
  }
  return fmt::format("rollout {} has {}; `vpatch rollout report {}` writes it all down\n", name,
                     summary.rollout.course == Course::forward   ? "finished"
                     : summary.rollout.course == Course::aborted ? "been aborted"
                                                                 : "been rolled back",
                     name);
}

/// Does what the user's signals ask for.
class Orders {
 public:
  explicit Orders(const Interrupt& interrupt) : interrupt_(interrupt) {}

  void follow(fleet::Driver& driver) {
    const unsigned count = interrupt_.count();
    if (count > 1 && !std::exchange(interrupted_, true)) {
      driver.interrupt();
    } else if (count == 1 && !std::exchange(paused_, true)) {
      write_text(stderr,
                 "Ctrl-C: nothing new is begun; what is at work ends. Once more interrupts "
                 "that too.\n");
      driver.command({.kind = rollout::Command::Kind::pause, .text = real_user() + ": Ctrl-C"});
    }
  }

 private:
  const Interrupt& interrupt_;
  bool paused_ = false;
  bool interrupted_ = false;
};

}  // namespace

rollout::Time wall_clock() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string own_program() {
  return "/proc/self/exe";
}

std::string random_seed() {
  std::random_device device;
  std::string seed;
  for (int i = 0; i < 4; ++i) {
    seed += fmt::format("{:08x}", device());
  }
  return seed;
}

std::size_t terminal_width() {
  return terminal_size().ws_col;
}

Result<Outcome> drive_rollout(fleet::RolloutStore& store, const fleet::StoredRollout& rollout,
                              const std::optional<rollout::Command>& command,
                              const Options& options, const Interrupt& interrupt) {
  auto plan = rollout::parse_plan(rollout.begin.plan, "/");
  if (!plan) {
    return std::unexpected(std::move(plan.error()).in_context("the journal's plan"));
  }
  for (const std::string& connection : fleet::connections_of(rollout)) {
    if (auto known = fleet::host_command(connection, own_program()); !known) {
      return std::unexpected(std::move(known.error()));
    }
  }
  asio::io_context context;
  const asio::any_io_executor executor(context.get_executor());
  Show show(options);
  fleet::Driver* driver_seen = nullptr;
  fleet::Driver driver(
      {.context = context,
       .store = store,
       .plan = *plan,
       .rollout = rollout,
       .open_session = [&](const std::string& connection, const fleet::StoredRollout& of,
                           fleet::SessionEvents events) -> std::unique_ptr<fleet::DomainSession> {
         return std::make_unique<fleet::ServeSession>(
             executor, *fleet::host_command(connection, own_program()), *plan, of,
             fleet::FileAccess{
                 .read = [&store](const std::string& sha256) { return store.read_file(sha256); },
                 .keep =
                     [&store](const std::string& sha256, std::span<const std::byte> bytes) {
                       return store.keep_file(sha256, bytes);
                     }},
             std::move(events));
       },
       // Deadlines of guests are none of a wall clock that is set back, or ahead.
       .now =
           [began = wall_clock(), start = std::chrono::steady_clock::now()] {
             return began + std::chrono::floor<std::chrono::seconds>(
                                std::chrono::steady_clock::now() - start);
           },
       .seed = std::random_device()()},
      {.event =
           [&](const fleet::RolloutEvent& event) {
             if (driver_seen != nullptr) {
               show.event(*driver_seen, event);
             }
           },
       .progress = {},
       .report = {}});
  driver_seen = &driver;
  driver.start(command);
  Orders orders(interrupt);
  while (!driver.has_ended()) {
    orders.follow(driver);
    show.draw(driver);
    context.restart();
    context.run_for(kTurn);
  }
  context.restart();
  context.run_for(kLastWords);
  show.redraw(driver);
  if (const std::optional<Error>& error = driver.error()) {
    return std::unexpected(*error);
  }
  if (!options.json) {
    write_text(stdout, closing_text(driver.rollout(), driver.summary()));
  }
  return outcome_of(driver.summary());
}

}  // namespace vpatch

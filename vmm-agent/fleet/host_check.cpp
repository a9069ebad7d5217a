// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/host_check.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <boost/algorithm/string/trim.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/protocol.h"
#include "vmm-agent/serve/stream.h"

namespace vpatch::fleet {
namespace {

namespace asio = boost::asio;
using Health = rollout::HealthVerdict::Health;
using rollout::HealthVerdict;

constexpr std::size_t kMostText = 400;

std::string one_line(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  boost::trim(text);
  return serve::printable(text, kMostText);
}

/// ": no route"; empty when it said nothing.
std::string what_it_said(const std::string& said) {
  const std::string line = one_line(said);
  return line.empty() ? "" : ": " + line;
}

HealthVerdict verdict_of(const serve::ChildEnd& end, const std::string& said) {
  const std::string after = what_it_said(said);
  if (end.signal != 0) {
    return {.health = Health::inconclusive,
            .text = fmt::format("signal {} ended it{}", end.signal, after)};
  }
  const Health health = end.exit_code == 0   ? Health::pass
                        : end.exit_code == 1 ? Health::fail
                                             : Health::inconclusive;
  return {.health = health, .text = fmt::format("exit code {}{}", end.exit_code, after)};
}

}  // namespace

asio::awaitable<HealthVerdict> run_host_check(asio::any_io_executor executor,
                                              std::vector<std::string> argv,
                                              std::chrono::seconds timeout, std::stop_token stop) {
  // Shared with the handlers: they may come after this has ended.
  struct Run {
    asio::steady_timer timer;
    std::optional<serve::ChildEnd> end{};
    std::string said{};
  };
  auto run = std::make_shared<Run>(Run{asio::steady_timer(executor, timeout)});
  auto child = serve::ChildProcess::start(
      executor, {.program = argv.front(), .words = std::move(argv)}, [run](serve::ChildEnd end) {
        run->end = end;
        run->timer.cancel();
      });
  if (!child) {
    co_return HealthVerdict{.text = std::move(child.error().what)};
  }
  auto errors = std::make_shared<serve::Reader>(
      executor, std::move((*child)->errors),
      serve::Reader::Handlers{.bytes =
                                  [run](std::string_view bytes) {
                                    run->said += bytes;
                                    if (run->said.size() > kMostText) {
                                      run->said.erase(0, run->said.size() - kMostText);
                                    }
                                  },
                              .end = [] {}});
  errors->start();
  auto output = std::make_shared<serve::Reader>(
      executor, std::move((*child)->output),
      serve::Reader::Handlers{.bytes = [](std::string_view) {}, .end = [] {}});
  output->start();
  boost::system::error_code ignored;
  const std::stop_callback end_wait(stop, [run] { run->timer.cancel(); });
  if (!run->end && !stop.stop_requested()) {
    co_await run->timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  errors->finish();
  output->finish();
  const std::optional<serve::ChildEnd>& end = run->end;
  if (!end) {
    (*child)->signal_group(SIGKILL);
    co_return HealthVerdict{
        .text = stop.stop_requested()
                    ? "it was interrupted"
                    : fmt::format("no end after {} s{}", timeout.count(), what_it_said(run->said))};
  }
  co_return verdict_of(*end, run->said);
}

std::vector<std::string> words_of_check(const std::vector<std::string>& argv,
                                        const std::string& domain, const std::string& identity,
                                        const std::string& connection) {
  const std::array<std::pair<std::string_view, std::string_view>, 3> places = {
      {{"{domain}", domain}, {"{identity}", identity}, {"{connection}", connection}}};
  std::vector<std::string> words;
  for (const std::string_view word : argv) {
    std::string& made = words.emplace_back();
    for (std::size_t at = 0; at < word.size();) {
      const auto place = std::ranges::find_if(
          places, [&](const auto& each) { return word.substr(at).starts_with(each.first); });
      made += place == places.end() ? word.substr(at, 1) : place->second;
      at += place == places.end() ? 1 : place->first.size();
    }
  }
  return words;
}

}  // namespace vpatch::fleet

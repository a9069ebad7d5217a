// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/look_process.h"

#include <csignal>
#include <utility>

#include <fmt/format.h>

namespace vpatch::exporter {
namespace {

Result<std::string> result_of(serve::ChildEnd how, std::string text) {
  if (how.signal != 0) {
    return fail(Outcome::internal, fmt::format("the process was ended by signal {}", how.signal));
  }
  switch (how.exit_code) {
    case static_cast<int>(Outcome::done):
      return text;
    case static_cast<int>(Outcome::refused):
    case static_cast<int>(Outcome::unreachable):
      return fail(Outcome::unreachable, "the guest's memory cannot be read");
    default:
      return fail(Outcome::internal,
                  fmt::format("the process ended with exit code {}", how.exit_code));
  }
}

}  // namespace

Result<std::shared_ptr<LookProcess>> LookProcess::start(
    const boost::asio::any_io_executor& executor, const std::string& program,
    std::vector<std::string> words, std::chrono::milliseconds limit, Handlers handlers) {
  auto self = std::make_shared<LookProcess>(executor, std::move(handlers));
  auto child = serve::ChildProcess::start(
      executor, {.program = program, .words = std::move(words)},
      [self](serve::ChildEnd how) { self->child_ended(how); });  // holds it until then
  if (!child) {
    return std::unexpected(std::move(child.error()));
  }
  self->child_ = *std::move(child);
  const std::weak_ptr<LookProcess> weak = self;
  self->output_ = std::make_shared<serve::Reader>(
      executor, std::move(self->child_->output),
      serve::Reader::Handlers{.bytes =
                                  [weak](std::string_view bytes) {
                                    if (const auto alive = weak.lock()) {
                                      alive->take(bytes);
                                    }
                                  },
                              .end = [] {}});
  // Read, so that it never waits for us; what it says there is for a terminal.
  self->errors_ = std::make_shared<serve::Reader>(
      executor, std::move(self->child_->errors),
      serve::Reader::Handlers{.bytes = [](std::string_view) {}, .end = [] {}});
  self->output_->start();
  self->errors_->start();
  self->timer_.expires_after(limit);
  self->timer_.async_wait([weak](const boost::system::error_code& ec) {
    if (const auto alive = weak.lock(); alive && !ec) {
      alive->give_up("the process hangs, and is killed");
    }
  });
  return self;
}

void LookProcess::abandon() {
  handlers_ = {};
  give_up("nobody asks any more");
}

void LookProcess::take(std::string_view bytes) {
  if (bytes.size() > kMaxOutput - text_.size()) {
    return give_up(fmt::format("the process printed more than {} bytes", kMaxOutput));
  }
  text_ += bytes;
}

void LookProcess::give_up(const std::string& why) {
  if (!child_) {
    return;  // it ended as the limit was reached
  }
  timer_.cancel();
  output_->close();
  errors_->close();
  child_->signal(SIGKILL);
  answer(fail(Outcome::internal, why));
}

void LookProcess::child_ended(serve::ChildEnd how) {
  timer_.cancel();
  output_->finish();
  errors_->finish();
  answer(result_of(how, std::move(text_)));
  child_.reset();
  if (const auto ended = std::exchange(handlers_.ended, {})) {
    ended();
  }
}

void LookProcess::answer(Result<std::string> result) {
  if (const auto answered = std::exchange(handlers_.answered, {})) {
    answered(std::move(result));
  }
}

}  // namespace vpatch::exporter

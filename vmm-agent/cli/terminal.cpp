// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/terminal.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kBetweenProgress{250};

std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string Style::paint(std::string_view code, std::string_view text) const {
  return color_ ? fmt::format("\033[{}m{}\033[0m", code, text) : std::string(text);
}

void write_text(std::FILE* stream, const std::string& text) noexcept {
  static_cast<void>(std::fputs(text.c_str(), stream));
}

std::string harmless(std::string text) {
  std::ranges::replace_if(text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

bool is_live(std::FILE* stream) {
  const char* term =
      std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): nobody changes the environment
  return isatty(fileno(stream)) != 0 && (term == nullptr || std::string_view(term) != "dumb");
}

bool wants_color(std::FILE* stream) {
  return is_live(stream) && std::getenv("NO_COLOR") == nullptr;  // NOLINT(concurrency-mt-unsafe)
}

TerminalReporter::TerminalReporter(Style style, bool live, Telling telling)
    : style_(style), live_(live), quiet_(telling == Telling::nothing) {
  if (telling == Telling::lines) {
    lines_.emplace([](const std::string& line) { write_text(stderr, line); }, kBetweenProgress);
  }
}

void TerminalReporter::finish() {
  if (line_open_) {
    write_text(stderr, "\r\033[K");
    line_open_ = false;
  }
}

void TerminalReporter::step(std::string_view text) {
  if (lines_) {
    lines_->step(text);
  } else if (!quiet_) {
    finish();
    write_text(stderr, fmt::format("{} {}\n", style_.good("-"), text));
  }
}

void TerminalReporter::progress(std::string_view text) {
  if (lines_) {
    lines_->progress(text);
  } else if (!quiet_ && live_) {
    finish();
    write_text(stderr, fmt::format("{}", style_.faint(text.substr(0, terminal_width() - 1))));
    std::fflush(stderr);
    line_open_ = true;
  }
}

void TerminalReporter::warning(std::string_view text) {
  if (lines_) {
    lines_->warning(text);
  } else if (!quiet_) {
    finish();
    write_text(stderr, fmt::format("{} {}\n", style_.doubtful("warning:"), text));
  }
}

}  // namespace vpatch

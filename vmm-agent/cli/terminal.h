// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "vmm-agent/cli/progress_lines.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// Colours for a stream, or none.
class Style {
 public:
  explicit Style(bool color) : color_(color) {}

  std::string good(std::string_view text) const { return paint("32", text); }
  std::string bad(std::string_view text) const { return paint("31;1", text); }
  std::string doubtful(std::string_view text) const { return paint("33", text); }
  std::string faint(std::string_view text) const { return paint("2", text); }

 private:
  std::string paint(std::string_view code, std::string_view text) const;

  bool color_;
};

/// Writes text and never fails: what cannot be written is lost, and the operation goes on. A closed
/// terminal or a full log disk must not stop the repair of a guest.
void write_text(std::FILE* stream, const std::string& text) noexcept;

/// Text that holds a name from outside (a file's, say), without what a terminal would obey.
std::string harmless(std::string text);

/// Does a person watch this stream, on a terminal that can rewrite a line?
bool is_live(std::FILE* stream);

/// May colours be used on this stream? It is live, and NO_COLOR does not say otherwise.
bool wants_color(std::FILE* stream);

enum class Telling : std::uint8_t {
  nothing,
  text,   ///< on a terminal one live line and the steps done; elsewhere lines for the steps only
  lines,  ///< for a program: ProgressLines
};

/// Tells on stderr how an operation goes.
class TerminalReporter final : public Reporter {
 public:
  TerminalReporter(Style style, bool live, Telling telling);
  ~TerminalReporter() override { finish(); }

  void step(std::string_view text) override;
  void progress(std::string_view text) override;
  void warning(std::string_view text) override;

  /// Takes the live line away, before anything else is printed.
  void finish();

 private:
  Style style_;
  bool live_;
  bool quiet_;
  bool line_open_ = false;
  std::optional<ProgressLines> lines_;
};

}  // namespace vpatch

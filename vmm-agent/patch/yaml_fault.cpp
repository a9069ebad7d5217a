// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/yaml_fault.h"

#include <cstdint>
#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

namespace vpatch {
namespace {

using YAML::anchor_t;
using YAML::Mark;

/// Sees only where documents begin.
class DocumentStarts final : public YAML::EventHandler {
 public:
  const Mark& last() const { return last_; }

 private:
  using Style = YAML::EmitterStyle::value;

  void OnDocumentStart(const Mark& mark) override { last_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, anchor_t) override {}
  void OnAlias(const Mark&, anchor_t) override {}
  void OnScalar(const Mark&, const std::string&, anchor_t, const std::string&) override {}
  void OnSequenceStart(const Mark&, const std::string&, anchor_t, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const std::string&, anchor_t, Style) override {}
  void OnMapEnd() override {}

  Mark last_;
};

}  // namespace

std::optional<YamlFault> yaml_fault(const std::string& text) {
  Mark mark;
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte == 0x7F || (byte < 0x20 && c != '\n' && c != '\r' && c != '\t')) {
      return YamlFault{mark, fmt::format("there is a control character (byte {:#04x})", byte)};
    }
    mark.line += c == '\n' ? 1 : 0;
    mark.column = c == '\n' ? 0 : mark.column + 1;
  }
  // YAML::LoadAll() would find documents without end in "[a], b".
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts starts;
  if (parser.HandleNextDocument(starts) && parser.HandleNextDocument(starts)) {
    return YamlFault{starts.last(), "a second document; there may be one"};
  }
  return std::nullopt;
}

}  // namespace vpatch

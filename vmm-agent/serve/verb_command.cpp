// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/verb_command.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxDomain = 512;
constexpr std::size_t kMaxPatch = 55;  ///< of a module's name in the kernel
constexpr std::size_t kMaxOptions = 32;
constexpr std::size_t kMaxOption = 4096;

/// Those of this host. The URIs of libvirt's remote drivers can name programs to be run.
constexpr std::array<std::string_view, 3> kConnections = {"qemu:///system", "qemu:///session",
                                                          "test:///default"};

enum class Value : std::uint8_t { none, needed, optional };

struct AllowedOption {
  std::string_view name;
  Value value = Value::needed;
  bool of_revert = true;
};

/// None names a file, and none takes back what this host's policy asks for. `--agent-timeout` is
/// not among them: the limits after which a process counts as hung rest on it.
constexpr std::array<AllowedOption, 16> kOptions = {{
    {"--timeout"},
    {"--on-stall"},
    {"--grace"},
    {"--assist"},
    {"--signal-after"},
    {"--switch-after"},
    {"--max-pause"},
    {"--require-signed", Value::none},
    {"--replace-with-nop", Value::none},
    {"--when-clear", Value::optional, false},
    {"--quiesce", Value::needed, false},
    {"--allow-stacking", Value::none, false},
    {"--allow-downgrade", Value::none, false},
    {"--settle", Value::needed, false},
    {"--persist", Value::none, false},
    {"--dry-run", Value::none, false},
}};
constexpr std::string_view kOnlyOfRevert = "--replace-with-nop";

struct Verb {
  std::string_view method;
  std::string_view verb;
  bool domain = true;
  bool options = false;
  bool file = false;   ///< needed
  bool patch = false;  ///< may be there, or a file to go back to
};

constexpr std::array<Verb, 5> kVerbs = {{
    {.method = "list", .verb = "serve", .domain = false},
    {.method = "look", .verb = "status"},
    {.method = "check", .verb = "doctor"},
    {.method = "apply", .verb = "apply", .options = true, .file = true},
    {.method = "revert", .verb = "revert", .options = true, .patch = true},
}};

const Verb* find_verb(std::string_view method) {
  const auto* const found = std::ranges::find(kVerbs, method, &Verb::method);
  return found == kVerbs.end() ? nullptr : found;
}

std::unexpected<Error> refused(std::string what) {
  return fail(Outcome::refused, std::move(what));
}

Result<void> only_known(const json::object& params, const Verb& verb) {
  for (const auto& [key, value] : params) {
    const std::string_view name(key.data(), key.size());
    const bool known = name == "connection" || (name == "domain" && verb.domain) ||
                       (name == "options" && verb.options) ||
                       (name == "file" && (verb.file || verb.patch)) ||
                       (name == "patch" && verb.patch);
    if (!known) {
      return refused(fmt::format("{} has no parameter \"{}\"", verb.method, printable(name, 60)));
    }
  }
  return {};
}

/// A parameter that may be missing.
Result<std::optional<std::string>> text_of(const json::object& params, std::string_view key,
                                           std::size_t limit) {
  const json::value* value = params.if_contains({key.data(), key.size()});
  if (value == nullptr) {
    return std::nullopt;
  }
  const json::string* text = value->if_string();
  if (text == nullptr || text->empty() || text->size() > limit) {
    return refused(fmt::format("\"{}\" is not a string of 1 to {} bytes", key, limit));
  }
  std::string word(text->data(), text->size());
  if (printable(word, limit) != word) {
    return refused(fmt::format("\"{}\" has control characters", key));
  }
  return word;
}

Result<std::string> needed_text(const json::object& params, std::string_view key,
                                std::size_t limit) {
  auto text = text_of(params, key, limit);
  if (!text) {
    return std::unexpected(std::move(text.error()));
  }
  std::optional<std::string>& word = *text;
  if (!word) {
    return refused(fmt::format("\"{}\" is missing", key));
  }
  return *std::move(word);
}

/// The target's words, each with its value in it: none can be taken for another.
Result<void> add_target(VerbCommand& command, const json::object& params, const Verb& verb) {
  const auto connection = needed_text(params, "connection", kMaxDomain);
  if (!connection) {
    return std::unexpected(connection.error());
  }
  if (std::ranges::find(kConnections, *connection) == kConnections.end()) {
    return refused(
        fmt::format("\"connection\" is not one of this host's: {}", fmt::join(kConnections, ", ")));
  }
  command.words.push_back("--connect=" + *connection);
  if (!verb.domain) {
    command.words.emplace_back("--list");
    return {};
  }
  const auto domain = needed_text(params, "domain", kMaxDomain);
  if (!domain) {
    return std::unexpected(domain.error());
  }
  command.words.push_back("--domain=" + *domain);
  return {};
}

Result<void> add_file(VerbCommand& command, const json::object& params, const Verb& verb,
                      const SessionFiles& files) {
  auto sha256 = verb.file ? map(needed_text(params, "file", 64),
                                [](std::string text) { return std::optional(std::move(text)); })
                          : text_of(params, "file", 64);
  if (!sha256) {
    return std::unexpected(std::move(sha256.error()));
  }
  const std::optional<std::string>& name = *sha256;
  if (!name) {
    return {};
  }
  command.file = files.find(*name);
  if (command.file < 0) {
    return refused("\"file\" is not the SHA-256 of a file of this session: put_file comes first");
  }
  const std::string path = fmt::format("/proc/self/fd/{}", kChildFile);
  command.words.push_back(verb.file ? path : "--to=" + path);
  return {};
}

bool is_module_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || c == '-'; });
}

Result<void> add_patch(VerbCommand& command, const json::object& params) {
  const auto patch = text_of(params, "patch", kMaxPatch);
  if (!patch) {
    return std::unexpected(patch.error());
  }
  const std::optional<std::string>& name = *patch;
  if (!name) {
    return {};
  }
  if (!is_module_name(*name)) {
    return refused("\"patch\" is not the name of a module");
  }
  if (command.file >= 0) {
    return refused("\"patch\" and \"file\" exclude each other");
  }
  command.words.push_back(*name);
  return {};
}

Result<void> check_option(std::string_view word, const Verb& verb) {
  const std::size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const auto* const option = std::ranges::find(kOptions, name, &AllowedOption::name);
  const bool allowed =
      option != kOptions.end() && (verb.file ? name != kOnlyOfRevert : option->of_revert);
  if (!allowed) {
    return refused(fmt::format("{} is not an option of {} that this host takes from others",
                               printable(name, 60), verb.method));
  }
  const bool has_value = equals != std::string_view::npos && equals + 1 < word.size();
  const bool has_equals = equals != std::string_view::npos;
  if (option->value == Value::needed ? !has_value
                                     : has_equals && (option->value == Value::none || !has_value)) {
    return refused(fmt::format(
        "{} is written as {}", name,
        option->value == Value::none ? std::string(name) : fmt::format("{}=VALUE", name)));
  }
  return {};
}

/// Each option is one word, `--name` or `--name=value`.
Result<void> add_options(VerbCommand& command, const json::object& params, const Verb& verb) {
  const json::value* value = params.if_contains("options");
  if (value == nullptr) {
    return {};
  }
  const json::array* options = value->if_array();
  if (options == nullptr || options->size() > kMaxOptions) {
    return refused(fmt::format("\"options\" is not an array of at most {} words", kMaxOptions));
  }
  for (const json::value& one : *options) {
    const json::string* text = one.if_string();
    const std::string word = text == nullptr ? "" : std::string(text->data(), text->size());
    if (word.size() > kMaxOption || printable(word, kMaxOption) != word) {
      return refused("\"options\" has a word that is too long or not printable");
    }
    if (auto checked = check_option(word, verb); !checked) {
      return checked;
    }
    command.words.push_back(word);
  }
  return {};
}

}  // namespace

bool is_verb(std::string_view method) {
  return find_verb(method) != nullptr;
}

Result<VerbCommand> command_of(std::string_view method, const json::object& params,
                               const SessionFiles& files) {
  const Verb& verb = *find_verb(method);
  VerbCommand command;
  command.words = {std::string(verb.verb), "--json"};
  if (auto done = only_known(params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_target(command, params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_file(command, params, verb, files); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_patch(command, params); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_options(command, params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  return command;
}

}  // namespace vpatch::serve

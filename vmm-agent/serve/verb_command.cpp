// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/verb_command.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "qmp/message.h"
#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxDomain = 512;
constexpr std::size_t kSha256 = 64;
constexpr std::size_t kMaxPatch = 55;  ///< of a module's name in the kernel
constexpr std::size_t kMaxOptions = 32;
constexpr std::size_t kMaxOption = 4096;
constexpr std::size_t kMaxBootId = 64;
constexpr std::size_t kMaxArguments = 64;
constexpr std::size_t kMaxArgument = 4096;
constexpr std::int64_t kMaxCommandMs = 3'600'000;

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
    {"--settle"},
    {"--persist", Value::none},
    {"--dry-run", Value::none, false},
}};
constexpr std::string_view kOnlyOfRevert = "--replace-with-nop";

enum class Given : std::uint8_t { no, optional, needed };

struct Verb {
  std::string_view method;
  std::string_view verb;
  bool domain = true;
  bool options = false;
  Given file = Given::no;
  Given patch = Given::no;
  std::string_view file_option{};   ///< what stands before the file in its word
  std::string_view patch_option{};  ///< the same for the patch
  std::string_view always{};        ///< a further word
  bool health = false;              ///< a mark and a command may be there
};

constexpr std::array<Verb, 8> kVerbs = {{
    {.method = "list", .verb = "serve", .domain = false, .always = "--list"},
    {.method = "look", .verb = "status"},
    {.method = "health", .verb = "health", .health = true},
    {.method = "apply", .verb = "apply", .options = true, .file = Given::needed},
    {.method = "revert",
     .verb = "revert",
     .options = true,
     .file = Given::optional,
     .patch = Given::optional,
     .file_option = "--to="},
    {.method = "register", .verb = "ensure", .file = Given::needed, .file_option = "--register="},
    {.method = "forget", .verb = "ensure", .patch = Given::needed, .patch_option = "--forget="},
    {.method = "registered", .verb = "ensure", .always = "--list"},
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
                       (name == "file" && verb.file != Given::no) ||
                       (name == "patch" && verb.patch != Given::no) ||
                       ((name == "mark" || name == "command") && verb.health);
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

/// A parameter as the verb has it; nothing where it is not given, and need not be.
Result<std::optional<std::string>> given_text(const json::object& params, std::string_view key,
                                              std::size_t limit, Given given) {
  return given == Given::needed
             ? map(needed_text(params, key, limit),
                   [](std::string text) { return std::optional(std::move(text)); })
             : text_of(params, key, limit);
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
  if (!verb.always.empty()) {
    command.words.emplace_back(verb.always);
  }
  if (!verb.domain) {
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
  const auto sha256 = given_text(params, "file", kSha256, verb.file);
  if (!sha256) {
    return std::unexpected(sha256.error());
  }
  const std::optional<std::string>& name = *sha256;
  if (!name) {
    return {};
  }
  command.file = files.find(*name);
  if (command.file < 0) {
    return refused("\"file\" is not the SHA-256 of a file of this session: put_file comes first");
  }
  command.words.push_back(fmt::format("{}/proc/self/fd/{}", verb.file_option, kChildFile));
  return {};
}

bool is_module_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || c == '-'; });
}

Result<void> add_patch(VerbCommand& command, const json::object& params, const Verb& verb) {
  const auto patch = given_text(params, "patch", kMaxPatch, verb.patch);
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
  command.words.push_back(std::string(verb.patch_option) + *name);
  return {};
}

Result<void> check_option(std::string_view word, const Verb& verb) {
  const std::size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const auto* const option = std::ranges::find(kOptions, name, &AllowedOption::name);
  const bool applies = verb.file == Given::needed;
  const bool allowed =
      option != kOptions.end() && (applies ? name != kOnlyOfRevert : option->of_revert);
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

/// A parameter that is an object of at most `fields` fields; null when it is missing.
Result<const json::object*> object_of(const json::object& params, std::string_view key,
                                      std::size_t fields) {
  const json::value* value = params.if_contains({key.data(), key.size()});
  if (value == nullptr) {
    return nullptr;
  }
  const json::object* object = value->if_object();
  if (object == nullptr || object->size() > fields) {
    return refused(fmt::format("\"{}\" is not an object of its fields alone", key));
  }
  return object;
}

Result<void> add_mark(VerbCommand& command, const json::object& params) {
  const auto mark = object_of(params, "mark", 3);
  if (!mark || *mark == nullptr) {
    return mark ? Result<void>() : std::unexpected(mark.error());
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto boot = needed_text(**mark, "boot_id", kMaxBootId);
  const auto sequence = qmp::int_member(**mark, "log_sequence", 0, kMost);
  const auto taint = qmp::int_member(**mark, "taint", 0, kMost);
  if (!boot || !sequence || !taint) {
    return refused("\"mark\" is not a \"boot_id\", \"log_sequence\" and \"taint\" of a report");
  }
  command.words.push_back("--since-boot=" + *boot);
  command.words.push_back(fmt::format("--since-log={}", *sequence));
  command.words.push_back(fmt::format("--since-taint={}", *taint));
  return {};
}

/// The words after `--` are taken as they are.
Result<void> add_command(VerbCommand& command, const json::object& params) {
  const auto asked = object_of(params, "command", 2);
  if (!asked || *asked == nullptr) {
    return asked ? Result<void>() : std::unexpected(asked.error());
  }
  const auto timeout = qmp::int_member(**asked, "timeout_ms", 1, kMaxCommandMs);
  const json::value* argv = (*asked)->if_contains("argv");
  const json::array* words = argv == nullptr ? nullptr : argv->if_array();
  if (!timeout || words == nullptr || words->empty() || words->size() > kMaxArguments) {
    return refused(
        fmt::format("\"command\" is not an \"argv\" of 1 to {} words and a \"timeout_ms\" of at "
                    "most {}",
                    kMaxArguments, kMaxCommandMs));
  }
  command.words.push_back(fmt::format("--command-timeout={}ms", *timeout));
  command.words.emplace_back("--");
  for (const json::value& one : *words) {
    const json::string* text = one.if_string();
    const std::string word = text == nullptr ? "" : std::string(text->data(), text->size());
    if (text == nullptr || word.size() > kMaxArgument || printable(word, kMaxArgument) != word) {
      return refused("\"argv\" has a word that is no string, too long or not printable");
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
  if (verb.options) {
    command.words.emplace_back("--progress");
  }
  if (auto done = only_known(params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_target(command, params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_file(command, params, verb, files); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_patch(command, params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_options(command, params, verb); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_mark(command, params); !done) {
    return std::unexpected(std::move(done.error()));
  }
  if (auto done = add_command(command, params); !done) {
    return std::unexpected(std::move(done.error()));
  }
  return command;
}

}  // namespace vpatch::serve

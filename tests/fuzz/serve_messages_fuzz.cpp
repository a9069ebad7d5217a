// SPDX-License-Identifier: Apache-2.0
// What `vpatch serve` and its client say to each other, of any bytes. Of a server: lines, and what
// the driver of a rollout makes of the reports in them, to the page that shows them. Of a client:
// requests, and the command lines that they become.
#include <algorithm>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <boost/json.hpp>

#include "tests/fuzz/fuzz_input.h"
#include "tests/unit/fleet/markup.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/fleet/gather.h"
#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/rollout_report.h"
#include "vmm-agent/fleet/verb_answer.h"
#include "vmm-agent/fleet/view_text.h"
#include "vmm-agent/serve/protocol.h"
#include "vmm-agent/serve/verb_command.h"

namespace vpatch::fuzz {
namespace {

namespace json = boost::json;
using fleet::text_member;

// sha256sum of "abc" (FIPS 180-2, B.1).
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kChildsFile = "/proc/self/fd/3";

// Text.

/// Whether it is UTF-8 without control characters, as another parser than ours sees it.
bool is_clean(std::string_view text) {
  boost::system::error_code ec;
  json::parse(json::serialize(json::string(text)), ec);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7F || (byte == 0xC2 && next >= 0x80 && next < 0xA0)) {
      return false;
    }
  }
  return !ec;
}

bool is_clean(const json::value& value) {
  if (const auto* text = value.if_string()) {
    return is_clean(std::string_view(*text));
  }
  if (const auto* array = value.if_array()) {
    return std::ranges::all_of(*array, [](const json::value& item) { return is_clean(item); });
  }
  const auto* object = value.if_object();
  return object == nullptr || std::ranges::all_of(*object, [](const auto& member) {
           return is_clean(std::string_view(member.key())) && is_clean(member.value());
         });
}

void fuzz_text(std::size_t limit, std::string_view text) {
  const std::string shown = serve::printable(text, limit);
  require(shown.size() <= limit && is_clean(shown));
  require(serve::printable(shown, limit) == shown);
  require(serve::printable(text, limit + 7).starts_with(shown));
  require(!is_clean(text) || text.size() > limit || shown == text);
  const std::string in_page = fleet::shown_text(text, limit);
  require(in_page.size() <= limit && is_clean(in_page));
  require(fleet::shown_text(in_page, limit) == in_page);
  const auto markup =
      fleet::read_markup("<!DOCTYPE html>\n<p a=\"" + fleet::page_text(text, limit) + "\">" +
                         fleet::page_text(text, limit) + "</p>");
  require(markup.error.empty() && markup.text == in_page && markup.elements.size() == 1);
  require(markup.attributes.size() == 1 && markup.attributes.front().value == in_page);
  fleet::ViewLine pieces(limit, false);
  pieces.field(text, limit / 2).add(text);
  const std::string line = std::move(pieces).take();
  require(is_clean(line) && fleet::columns_of(line) <= limit);
}

// Lines.

struct Taken {
  bool fine = true;
  std::vector<std::string> lines{};
  std::string rest{};

  friend bool operator==(const Taken&, const Taken&) = default;
};

Taken split(std::string_view text, std::size_t piece, std::size_t limit,
            serve::LineSplitter::TooLong too_long) {
  serve::LineSplitter splitter(limit, too_long);
  Taken taken;
  for (; taken.fine && !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    taken.fine = splitter.feed(text.substr(0, piece), [&](std::string_view line) {
      taken.lines.emplace_back(line);
      return true;
    });
  }
  taken.rest = splitter.rest();
  return taken;
}

/// How the bytes of a line come in makes no difference.
void fuzz_lines(std::size_t limit, std::string_view text) {
  using enum serve::LineSplitter::TooLong;
  for (const auto too_long : {fails, cut}) {
    const Taken whole = split(text, text.size(), limit, too_long);
    require(whole == split(text, 1, limit, too_long));
    require(whole == split(text, 3, limit, too_long));
    require(whole.fine || too_long == fails);
    for (const std::string& line : whole.lines) {
      require(!line.empty() && line.size() <= limit && line.find('\n') == std::string::npos);
    }
  }
}

// What a server says.

/// Equal but for fractions: boost::json reads them with an error in the last bit.
bool same(const json::value& one, const json::value& other) {
  if (one.is_double() && other.is_double()) {
    return true;
  }
  if (one.is_array() && other.is_array()) {
    return std::ranges::equal(one.get_array(), other.get_array(), same);
  }
  if (!one.is_object() || !other.is_object()) {
    return one == other;
  }
  const json::object& members = other.get_object();
  return one.get_object().size() == members.size() &&
         std::ranges::all_of(one.get_object(), [&](const auto& member) {
           const json::value* found = members.if_contains(member.key());
           return found != nullptr && same(member.value(), *found);
         });
}

/// A message written and read again.
template <class Kind>
Kind again(const std::string& line) {
  require(line.find('\n') == line.size() - 1);
  auto message = serve::parse_message(std::string_view(line).substr(0, line.size() - 1));
  require(message.has_value() && std::holds_alternative<Kind>(*message));
  return std::get<Kind>(*std::move(message));
}

void look_at_failure(const serve::Failure& failure) {
  require(failure.text.size() <= 8192 && is_clean(failure.text));
  require(!failure.id || (*failure.id >= 1 && *failure.id <= serve::kMaxId));
  const auto read = again<serve::Answer>(serve::format_failure(failure));
  require(!read.result && read.id == failure.id && read.result.error().text == failure.text &&
          read.result.error().code == failure.code);
}

rollout::Plan some_plan() {
  rollout::Plan plan;
  plan.name = "fix";
  plan.files = {{"6.1.0-1", "/fix.ko"}, {"6.12.1", "/other.ko"}};
  plan.selection = {{"qemu:///system"}, {"web*"}, {"front"}, {"*-test"}};
  plan.canary = rollout::Canary{.domains = {}, .amount = rollout::Amount{1}};
  plan.waves = {{.amount = {10, rollout::Amount::Unit::percent}}, {}};
  return plan;
}

void look_at_domains(const json::object& report) {
  const auto domains = fleet::domains_of(report, "qemu:///system");
  for (const fleet::ListedDomain& domain : domains) {
    const rollout::Target& target = domain.target;
    require(target.connection == "qemu:///system" && target.groups.size() <= 64);
    require(!target.name.empty() && !target.identity.empty());
    for (const std::string& text : {target.name, target.identity, target.kernel_release,
                                    target.build_id, domain.last_release}) {
      require(text.size() <= 255 && is_clean(text));
    }
    for (const std::string& group : target.groups) {
      require(group.size() <= 255 && is_clean(group));
    }
  }
  static const rollout::Plan kPlan = some_plan();
  const auto gathered = fleet::arrange(kPlan, std::vector<LivepatchFile>(2), domains, {});
  if (!gathered) {
    require(gathered.error().outcome == Outcome::refused);
    return;
  }
  std::vector<std::string> chosen;
  for (const fleet::RolloutDomain& domain : gathered->rollout.domains) {
    require(std::ranges::any_of(domains, [&](const fleet::ListedDomain& listed) {
      return listed.target.name == domain.name && listed.target.identity == domain.identity;
    }));
    require(domain.wave <= kPlan.waves.size() && (!domain.file || *domain.file < 2));
    chosen.push_back(domain.identity);
  }
  std::ranges::sort(chosen);
  require(std::ranges::adjacent_find(chosen) == chosen.end());
}

/// What is shown of a domain whose apply, look and revert have all printed this.
void look_at_page(const json::object& report, const fleet::VerbAnswer& answer) {
  const json::object brief = fleet::brief(report);
  require(json::serialize(brief).size() <= fleet::kLongestReport && fleet::brief(brief) == brief);
  fleet::StoredRollout rollout{.started_at = "2026-11-21T09:41:23.000017Z", .user = "root"};
  rollout.begin.name = "fix";
  rollout.begin.domains.push_back({.connection = "qemu:///system",
                                   .name = "web01",
                                   .record = {.state = rollout::DomainState::failed,
                                              .failure = true,
                                              .outcome = answer.outcome,
                                              .text = answer.text},
                                   .apply_report = brief,
                                   .revert_report = brief,
                                   .health_report = brief});
  const auto markup = fleet::read_markup(fleet::report_page(rollout, {}, rollout::Time()));
  require(markup.error.empty());
  for (const std::string& element : markup.elements) {
    require(element != "script" && element != "img" && element != "iframe");
  }
  for (const auto& attribute : markup.attributes) {
    require(attribute.name != "src" && !attribute.name.starts_with("on"));
    require(attribute.name != "href" || attribute.value.starts_with('#'));
  }
  require(is_clean(fleet::to_json(rollout, {}, "report")));
}

void look_at_result(json::object result) {
  json::value clean = serve::printable_value(std::move(result));
  require(is_clean(clean) && serve::printable_value(clean) == clean);
  const auto answer = fleet::answer_of(std::move(clean.as_object()));
  require(answer.text.size() <= 1000 && is_clean(answer.text));
  require(!answer.text.empty() || answer.done());
  const fleet::GuestLook guest = fleet::guest_of(answer);
  require(guest.health != rollout::HealthVerdict::Health::pass || answer.done());
  require(guest.patches.size() <= 256 && guest.mark.boot_id.size() <= 128);
  for (const auto& patch : guest.patches) {
    require(patch.name.size() <= 128 && patch.build_id.size() <= 128);
    require(is_clean(patch.name) && is_clean(patch.build_id));
  }
  look_at_domains(answer.report);
  look_at_page(answer.report, answer);
}

void fuzz_message(std::string_view line) {
  auto message = serve::parse_message(line);
  if (!message) {
    return look_at_failure(message.error());
  }
  if (const auto* request = std::get_if<serve::Request>(&*message)) {
    require(request->id >= 1 && request->id <= serve::kMaxId);
    require(!request->method.empty() && request->method.size() <= 64);
    const auto read =
        again<serve::Request>(serve::format_request(request->id, request->method, request->params));
    require(read.id == request->id && read.method == request->method &&
            same(read.params, request->params));
  } else if (const auto* told = std::get_if<serve::Notification>(&*message)) {
    const auto read =
        again<serve::Notification>(serve::format_notification(told->method, told->params));
    require(read.method == told->method && same(read.params, told->params));
  } else if (auto* answer = std::get_if<serve::Answer>(&*message); answer->result) {
    const auto read = again<serve::Answer>(serve::format_result(*answer->id, *answer->result));
    require(read.id == answer->id && same(*read.result, *answer->result));
    look_at_result(std::move(*answer->result));
  } else {
    look_at_failure(answer->result.error());
  }
}

// What a client asks for.

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "vpatch");
  std::vector<char*> argv;
  std::ranges::transform(words, std::back_inserter(argv), [](auto& word) { return word.data(); });
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

Verb verb_of(std::string_view method) {
  return method == "list"     ? Verb::serve
         : method == "look"   ? Verb::status
         : method == "health" ? Verb::health
         : method == "apply"  ? Verb::apply
         : method == "revert" ? Verb::revert
                              : Verb::ensure;
}

bool has_option(const json::object& params, std::string_view option) {
  const json::array& options = fleet::array_member(params, "options");
  return std::ranges::find(options, json::value(option)) != options.end();
}

/// What no request may set is as it is by itself.
void look_at_the_rest(const Options& options, const Options& plain) {
  require(options.target.qmp.empty() && options.target.qga.empty() && options.core.empty());
  require(options.signature.certificates.empty() &&
          options.signature.policy == plain.signature.policy);
  require(options.nop.empty() && options.blocking.empty() && options.task.empty());
  require(!options.stdio && !options.all && !options.retry_failed && !options.ask_agent);
  require(!options.watch && !options.paused && !options.verbose);
  require(options.force_confirmation.empty() && options.force.patch.empty());
  require(options.agent_timeout == plain.agent_timeout);
}

/// What a mark and a command of `health` ask for, word for word.
void look_at_health(const HealthOptions& health, const json::object& params) {
  std::vector<std::string> argv;
  if (const json::value* command = params.if_contains("command")) {
    for (const json::value& word : command->at("argv").as_array()) {
      argv.emplace_back(word.as_string());
    }
    require(health.command_timeout.count() == command->at("timeout_ms").as_int64());
  }
  require(health.command == argv);
  const json::value* mark = params.if_contains("mark");
  require(health.since.given() == (mark != nullptr));
  if (mark != nullptr) {
    require(health.since.boot_id == text_member(mark->as_object(), "boot_id"));
    require(health.since.log_sequence == fleet::number_member(mark->as_object(), "log_sequence"));
    require(health.since.taint == fleet::number_member(mark->as_object(), "taint"));
  }
}

/// The program understands of the words what was asked for, and nothing else.
void look_at_command(std::string_view method, const json::object& params,
                     const serve::VerbCommand& command) {
  static const Options kPlain;
  require(command.words.size() <= 128);
  require(std::ranges::all_of(command.words, [](const auto& word) { return is_clean(word); }));
  const bool has_file = params.contains("file");
  require((command.file >= 0) == has_file);
  const Options options = parse(command.words);
  if (options.verb == Verb::none) {
    return require(options.exit_code == static_cast<int>(Outcome::usage));
  }
  require(options.verb == verb_of(method) && options.json);
  require(options.target.uri == text_member(params, "connection"));
  require(options.target.domain == text_member(params, "domain"));
  require(options.list == (method == "list" || method == "registered"));
  const bool reverts = method == "revert";
  require(options.file == (has_file && !reverts ? kChildsFile : ""));
  require(options.revert_to == (has_file && reverts ? kChildsFile : ""));
  const std::string patch = text_member(params, "patch");
  require(options.revert.patch == (reverts ? patch : ""));
  require(options.forget == (method == "forget" ? patch : ""));
  require(options.persist == has_option(params, "--persist"));
  require(options.apply.dry_run == has_option(params, "--dry-run"));
  require(options.replace_with_nop == has_option(params, "--replace-with-nop"));
  look_at_health(options.health, params);
  look_at_the_rest(options, kPlain);
}

void fuzz_request(std::string_view line) {
  static serve::SessionFiles files;
  static const bool kThere = files.put(kAbc, "YWJj").has_value();
  require(kThere);
  const auto message = serve::parse_message(line);
  const auto* request = message ? std::get_if<serve::Request>(&*message) : nullptr;
  if (request == nullptr || !serve::is_verb(request->method)) {
    return;
  }
  const auto command = serve::command_of(request->method, request->params, files);
  if (command) {
    look_at_command(request->method, request->params, *command);
  } else {
    require(command.error().outcome == Outcome::refused && is_clean(command.error().what));
  }
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto kind = input.take<char>();
  if (kind == 't' || kind == 'l') {
    const std::size_t limit = input.take<std::uint8_t>();
    return (kind == 't' ? fuzz_text : fuzz_lines)(limit, text_of(input.rest()));
  }
  for (auto text = text_of(input.rest()); !text.empty();) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    (kind == 'r' ? fuzz_request : fuzz_message)(line);
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  const auto request = [&](std::string_view method, std::string_view more) {
    all.push_back(to_bytes("r{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"" + std::string(method) +
                           R"(","params":{"connection":"qemu:///system")" + std::string(more) +
                           "}}"));
  };
  const auto about = [&](std::string_view method, const std::string& more) {
    request(method, ",\"domain\":\"web01\"" + more);
  };
  const std::string file = ",\"file\":\"" + std::string(kAbc) + "\"";
  request("list", "");
  about("look", "");
  request("look", R"(,"domain":"--policy=/tmp/x")");
  request("registered", R"(,"domain":"[a,b]%%{}")");
  about("health", R"(,"mark":{"boot_id":"5bfd","log_sequence":71,"taint":512},)"
                  R"("command":{"argv":["sh","--domain=x","--","","%%"],"timeout_ms":1500})");
  about("apply", file + R"(,"options":["--when-clear","--timeout=5s","--on-stall=wait",)"
                        R"("--grace=1m","--assist=kick","--signal-after=60ms","--persist",)"
                        R"("--switch-after=30ms","--max-pause=10ms","--require-signed",)"
                        R"("--quiesce=f,ext4:g","--allow-stacking","--allow-downgrade",)"
                        R"("--settle=3s"])");
  about("apply", file + R"(,"options":["--dry-run","--when-clear=2s"])");
  about("revert", R"(,"patch":"fix_1","options":["--replace-with-nop"])");
  about("revert", file + R"(,"options":["--persist","--settle=3s"])");
  about("register", file);
  about("forget", R"(,"patch":"fix_1")");
  for (
      const std::string_view text :
      {R"(m{"jsonrpc":"2.0","id":1,"result":{"version":1,"vpatch":"0.1.0"}})",
       R"(m{"jsonrpc":"2.0","method":"progress","params":{"request":2,"kind":"step","text":"a"}})",
       R"(m{"jsonrpc":"2.0","id":2,"error":{"code":-32003,"message":"signal 9: \u001b[2J"}})",
       R"(m{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}})",
       R"(m{"jsonrpc":"2.0","id":3,"result":{"exit_code":0,"errors":"","report":{"health":"pass","state":"running","taint":512,"busy":"","boot_id":"b","log_sequence":7,"text":"t","patches":[{"name":"a","build_id":"1","phase":"patched","transition":false}],"checks":[{"id":"warned","health":"fail","text":"<b>"}]}}})",
       R"(m{"jsonrpc":"2.0","id":4,"result":{"exit_code":0,"report":{"schema":1,"domains":[{"name":"web01","identity":"5c1b","groups":["front","\u202e"],"state":"running","running":true,"release":"6.1.0-1","build_id":null},{"name":"web02","identity":"6c1b","running":true,"release":"6.12.1"},{"name":"web03","identity":"7c1b","running":false,"last_release":"6.1.0-1"},{"name":"web04","identity":"7c1b","running":false}]}}})",
       R"(m{"jsonrpc":"2.0","id":5,"result":{"exit_code":4,"errors":"e","report":{"verb":"apply","outcome":"stalled-reverted","exit_code":4,"summary":"s","hint":"h","findings":[{"id":"f","severity":"error","text":"&","hint":"'"}],"blockers":{"count":3,"tasks":[{"name":"sh","tid":7,"state":"S","why":"w","stack":["f+0x1/0x2"]}]},"kernel_log":["<6>x"],"transition_us":1500,"transition":{"lasted_us":2e3,"paused_us":70,"switched":[{}],"pending":{"tasks":[]}}}}})",
       "ltwo\nlines\n\nand more", "t\x10gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\x1b[2J",
       "t\x40\xc2\x9b\xe2\x80\xae\xed\xa0\x80\xef\xbf\xbf<&'\">\xff\xc3"}) {
    all.push_back(to_bytes(text));
  }
  return all;
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::cout.rdbuf(nullptr);  // what the command line's parser says of wrong words
  std::cerr.rdbuf(nullptr);
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/server.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "qmp/base64.h"
#include "qmp/message.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/journal/kept_file.h"
#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/protocol.h"
#include "vmm-agent/serve/session_files.h"
#include "vmm-agent/serve/stream.h"
#include "vmm-agent/serve/verb_command.h"

namespace vpatch::serve {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::size_t kMaxReport = std::size_t{4} << 20;  ///< of what a child prints
constexpr std::size_t kMaxErrors = 4096;                  ///< the newest of its standard error
constexpr std::size_t kMaxErrorLine = 1000;
/// Notifications are dropped while so much waits for a client that does not read.
constexpr std::size_t kDropNotifications = std::size_t{1} << 20;
/// A client that lets so many answers wait is taken for lost.
constexpr std::size_t kMaxUnread = std::size_t{128} << 20;
/// The largest file that is given: it fits in a line, in base64.
constexpr std::size_t kMaxFile = std::size_t{32} << 20;
/// No file is given while so much waits: a client that asks for several is not lost by that.
constexpr std::size_t kGiveNoFile = std::size_t{16} << 20;
/// Notifications of one request: a child that says more is not worth the line.
constexpr std::size_t kMaxProgress = 10'000;
/// For the last answers to leave.
constexpr std::chrono::seconds kLastWords{5};

/// A request that is being worked on.
struct Work {
  Work(const asio::any_io_executor& executor, std::int64_t request)
      : id(request), end_timer(executor) {}

  std::int64_t id;
  std::shared_ptr<ChildProcess> child;
  std::shared_ptr<Reader> output;
  std::shared_ptr<Reader> errors;
  asio::steady_timer end_timer;
  bool interrupted = false;
  bool too_much = false;  ///< more output than kMaxReport: it is no report
  std::string report;
  LineSplitter lines{kMaxErrorLine, LineSplitter::TooLong::cut};
  std::string said;  ///< the newest of its standard error
  std::size_t progress = 0;
};

constexpr std::string_view kProgress = "progress: ";

/// What a line on the standard error of a verb tells, as cli/progress_lines.cpp writes it.
std::pair<std::string_view, std::string_view> kind_and_text(std::string_view line) {
  for (const auto& [prefix, kind] : {std::pair<std::string_view, std::string_view>{"- ", "step"},
                                     {"warning: ", "warning"},
                                     {kProgress, "progress"}}) {
    if (line.starts_with(prefix)) {
      return {kind, line.substr(prefix.size())};
    }
  }
  return {"progress", line};
}

/// The one object that a verb prints: null for no output at all. A guest's names may be any bytes.
std::optional<json::value> parse_report(const std::string& text) try {
  if (text.find_first_not_of(" \n") == std::string::npos) {
    return json::value(nullptr);
  }
  json::parse_options how;
  how.allow_invalid_utf8 = true;
  boost::system::error_code ec;
  const json::value value = json::parse(text, ec, {}, how);
  return !ec && value.is_object() ? std::optional(printable_value(value)) : std::nullopt;
} catch (const std::exception&) {  // out of memory
  return std::nullopt;
}

class Server {
 public:
  Server(asio::io_context& context, introspect::UniqueFd input, introspect::UniqueFd output,
         const ServerOptions& options)
      : executor_(context.get_executor()),
        options_(options),
        signals_(executor_, SIGINT, SIGTERM, SIGHUP),
        heartbeat_(executor_),
        last_words_(executor_),
        reader_(std::make_shared<Reader>(
            executor_, std::move(input),
            Reader::Handlers{.bytes = [this](std::string_view bytes) { take_in(bytes); },
                             .end = [this] { end(); }})),
        writer_(std::make_shared<Writer>(executor_, std::move(output), [this] { output_idle(); })) {
  }

  void start() {
    signals_.async_wait([this](const boost::system::error_code& ec, int) {
      if (!ec) {
        end();
      }
    });
    reader_->start();
    beat();
  }

 private:
  void take_in(std::string_view bytes) {
    const bool fine = lines_.feed(bytes, [this](std::string_view line) {
      handle_line(line);
      return !ending_;
    });
    if (!fine && !ending_) {
      answer_failure({ErrorCode::parse, fmt::format("a line is over {} bytes", kMaxLine)});
      end();
    }
  }

  void handle_line(std::string_view line) {
    auto message = parse_message(line);
    if (!message) {
      return answer_failure(message.error());
    }
    if (std::holds_alternative<Answer>(*message)) {
      return answer_failure({ErrorCode::invalid_request, "answers are not expected here"});
    }
    // A notification is not answered, and there is none that this server knows.
    if (auto* request = std::get_if<Request>(&*message)) {
      if (auto failure = handle(*request)) {
        failure->id = request->id;
        answer_failure(*failure);
      }
    }
  }

  std::optional<Failure> handle(const Request& request) {
    if (request.method == "hello") {
      return hello(request);
    }
    if (!greeted_) {
      return Failure{ErrorCode::not_greeted, "the first request is hello"};
    }
    if (request.method == "put_file") {
      return put_file(request);
    }
    if (request.method == "get_file") {
      return get_file(request);
    }
    if (request.method == "cancel") {
      return cancel(request);
    }
    if (!is_verb(request.method)) {
      return Failure{ErrorCode::unknown_method,
                     fmt::format("no method {}", printable(request.method))};
    }
    return start_work(request);
  }

  std::optional<Failure> hello(const Request& request) {
    const auto version = qmp::int_member(request.params, "version", 0, kMaxId);
    const auto vpatch = qmp::string_member(request.params, "vpatch");
    if (!version || !vpatch) {
      return Failure{ErrorCode::invalid_params,
                     version ? vpatch.error().what : version.error().what};
    }
    if (*version != kVersion) {
      return Failure{ErrorCode::unknown_version,
                     fmt::format("version {} is not known; this is vpatch {}, which speaks {}",
                                 *version, options_.vpatch, kVersion)};
    }
    greeted_ = true;
    answer(request.id, {{"version", kVersion}, {"vpatch", options_.vpatch}});
    return {};
  }

  std::optional<Failure> put_file(const Request& request) {
    const auto sha256 = qmp::string_member(request.params, "sha256");
    const auto data = qmp::string_member(request.params, "data");
    if (!sha256 || !data || request.params.size() != 2) {
      return Failure{ErrorCode::invalid_params, "put_file takes the texts \"sha256\" and \"data\""};
    }
    const auto size = files_.put(*sha256, *data);
    if (!size) {
      return Failure{ErrorCode::invalid_params, size.error().what};
    }
    answer(request.id, {{"size", *size}});
    return {};
  }

  std::optional<Failure> get_file(const Request& request) {
    const auto sha256 = qmp::string_member(request.params, "sha256");
    if (!sha256 || request.params.size() != 1) {
      return Failure{ErrorCode::invalid_params, "get_file takes the text \"sha256\""};
    }
    if (writer_->pending() > kGiveNoFile) {
      return Failure{ErrorCode::busy, "answers wait to be read: files are given one by one"};
    }
    const auto bytes = read_kept_file(Journal::path(), *sha256, kMaxFile);
    if (!bytes) {
      return Failure{ErrorCode::invalid_params, bytes.error().what};
    }
    answer(request.id, {{"data", qmp::base64_encode(*bytes)}, {"size", bytes->size()}});
    return {};
  }

  std::optional<Failure> cancel(const Request& request) {
    const auto id = qmp::int_member(request.params, "request", 1, kMaxId);
    if (!id || request.params.size() != 1) {
      return Failure{ErrorCode::invalid_params, "cancel takes the id of a \"request\""};
    }
    const auto found = work_.find(*id);
    answer(request.id, {{"running", found != work_.end()}});
    if (found != work_.end()) {
      interrupt(*found->second);
    }
    return {};
  }

  std::optional<Failure> start_work(const Request& request) {
    if (work_.contains(request.id)) {
      return Failure{ErrorCode::invalid_request, "a request with this id is running"};
    }
    if (work_.size() >= options_.max_running) {
      return Failure{ErrorCode::busy, fmt::format("{} requests are running", options_.max_running)};
    }
    auto command = command_of(request.method, request.params, files_);
    if (!command) {
      return Failure{ErrorCode::invalid_params, command.error().what};
    }
    auto work = std::make_shared<Work>(executor_, request.id);
    if (auto started = launch(work, *command); !started) {
      return Failure{ErrorCode::cannot_start, started.error().what};
    }
    work_.emplace(request.id, std::move(work));
    return {};
  }

  Result<void> launch(const std::shared_ptr<Work>& work, const VerbCommand& command) {
    ChildSetup setup{.program = options_.program, .words = {"vpatch"}, .file = command.file};
    std::ranges::copy(command.words, std::back_inserter(setup.words));
    auto child = ChildProcess::start(executor_, setup,
                                     [this, work](ChildEnd how) { child_ended(*work, how); });
    if (!child) {
      return std::unexpected(std::move(child.error()));
    }
    work->child = *std::move(child);
    // No cycle: work's own readers end no later than with the child.
    const std::weak_ptr<Work> weak = work;
    work->output =
        std::make_shared<Reader>(executor_, std::move(work->child->output),
                                 Reader::Handlers{.bytes =
                                                      [this, weak](std::string_view bytes) {
                                                        if (const auto alive = weak.lock()) {
                                                          take_report(*alive, bytes);
                                                        }
                                                      },
                                                  .end = [] {}});
    work->errors =
        std::make_shared<Reader>(executor_, std::move(work->child->errors),
                                 Reader::Handlers{.bytes =
                                                      [this, weak](std::string_view bytes) {
                                                        if (const auto alive = weak.lock()) {
                                                          take_errors(*alive, bytes);
                                                        }
                                                      },
                                                  .end = [] {}});
    work->output->start();
    work->errors->start();
    return {};
  }

  /// What is too much is still read: a child must not be held up in the middle of a repair.
  void take_report(Work& work, std::string_view bytes) {
    if (work.too_much) {
      return;
    }
    if (bytes.size() > kMaxReport - work.report.size()) {
      work.too_much = true;
      work.report.clear();
      return interrupt(work);
    }
    work.report += bytes;
  }

  void take_errors(Work& work, std::string_view bytes) {
    work.lines.feed(bytes, [&](std::string_view line) {
      tell(work, line);
      return true;
    });
  }

  void tell(Work& work, std::string_view line) {
    const std::string clean = printable(line);
    if (!clean.starts_with(kProgress)) {  // what went on once explains no failure
      work.said += (work.said.empty() ? "" : "; ") + clean;
    }
    if (work.said.size() > kMaxErrors) {
      work.said = work.said.substr(work.said.size() - kMaxErrors);
    }
    if (++work.progress > kMaxProgress) {
      return;
    }
    const auto [kind, text] = kind_and_text(clean);
    notify("progress", {{"request", work.id}, {"kind", kind}, {"text", text}});
  }

  /// As Ctrl-C: the child ends with its guest patched or as before.
  void interrupt(Work& work) {
    if (std::exchange(work.interrupted, true)) {
      return;
    }
    work.child->signal(SIGINT);
    work.end_timer.expires_after(options_.end_limit);
    work.end_timer.async_wait([child = work.child](const boost::system::error_code& ec) {
      if (!ec) {
        child->signal(SIGKILL);  // hung, by its own limits
      }
    });
  }

  void child_ended(Work& work, ChildEnd how) {
    work.output->finish();
    work.errors->finish();
    if (!work.lines.rest().empty()) {
      tell(work, work.lines.rest());
    }
    work.end_timer.cancel();
    answer_work(work, how);
    work_.erase(work.id);
    leave_when_done();
  }

  void answer_work(const Work& work, ChildEnd how) {
    const auto failed = [&](const std::string& why) {
      answer_failure({ErrorCode::child_failed,
                      fmt::format("{}{}{}", why, work.said.empty() ? "" : ": ", work.said),
                      work.id});
    };
    if (how.signal != 0) {
      return failed(fmt::format("the process was ended by signal {}", how.signal));
    }
    if (work.too_much) {
      return failed(fmt::format("the process printed more than {} bytes", kMaxReport));
    }
    auto report = parse_report(work.report);
    if (!report) {
      return failed(fmt::format("the process ended with exit code {}, and printed no JSON object",
                                how.exit_code));
    }
    answer(work.id, {{"exit_code", how.exit_code},
                     {"report", *std::move(report)},
                     {"errors", printable(work.said, kMaxErrors)}});
  }

  void answer(std::int64_t id, json::object result) { send(format_result(id, std::move(result))); }
  void answer_failure(const Failure& failure) { send(format_failure(failure)); }

  void send(std::string line) {
    writer_->send(std::move(line));
    if (writer_->pending() > kMaxUnread) {
      writer_->close();
      end();
    }
  }

  void notify(std::string_view method, json::object params) {
    if (writer_->pending() < kDropNotifications) {
      writer_->send(format_notification(method, std::move(params)));
    }
  }

  void beat() {
    if (ending_ && work_.empty()) {
      return;  // it was due already when it was cancelled
    }
    if (greeted_) {
      notify("heartbeat", {{"running", work_.size()}});
    }
    heartbeat_.expires_after(options_.heartbeat);
    heartbeat_.async_wait([this](const boost::system::error_code& ec) {
      if (!ec) {
        beat();
      }
    });
  }

  void output_idle() {
    if (!writer_->is_open()) {
      end();
    }
    leave_when_done();
  }

  /// Nobody asks any more: interrupts all work.
  void end() {
    if (std::exchange(ending_, true)) {
      return;
    }
    reader_->close();
    signals_.cancel();  // stays installed: a second signal changes nothing
    for (const auto& [id, work] : work_) {
      interrupt(*work);
    }
    leave_when_done();
  }

  /// The last thing on the executor goes with this, and run() returns.
  void leave_when_done() {
    if (!ending_ || !work_.empty()) {
      return;
    }
    heartbeat_.cancel();
    if (writer_->pending() == 0) {
      writer_->close();
      last_words_.cancel();
      return;
    }
    last_words_.expires_after(kLastWords);
    last_words_.async_wait([this](const boost::system::error_code& ec) {
      if (!ec) {
        writer_->close();
      }
    });
  }

  asio::any_io_executor executor_;
  ServerOptions options_;
  asio::signal_set signals_;
  asio::steady_timer heartbeat_;
  asio::steady_timer last_words_;
  LineSplitter lines_{kMaxLine};
  SessionFiles files_;
  std::map<std::int64_t, std::shared_ptr<Work>> work_;
  bool greeted_ = false;
  bool ending_ = false;
  // Last: their handlers use all of the above.
  std::shared_ptr<Reader> reader_;
  std::shared_ptr<Writer> writer_;
};

}  // namespace

void run_server(introspect::UniqueFd input, introspect::UniqueFd output,
                const ServerOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that hangs up is the end of the input
  asio::io_context context(1);
  Server server(context, std::move(input), std::move(output), options);
  server.start();
  context.run();
}

}  // namespace vpatch::serve

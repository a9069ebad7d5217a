// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/server.h"

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include <boost/json.hpp>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "vmm-agent/serve/protocol.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using introspect::UniqueFd;
using testing::HasSubstr;

/// Bound of a wait that only a broken test meets.
constexpr std::chrono::milliseconds kPatience = 60s;
/// sha256sum of 14 MiB of zeros.
constexpr const char* kZeros = "e86bae8c0598c4ff83c695f467daa4a1e8fa01d57f9140372993366204022a4d";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A server in a thread, whose verbs fake-vpatch does, and the client's ends of its pipes.
class ServerTest : public testing::Test {
 public:
  ~ServerTest() override { input_.reset(); }

 protected:
  void start(ServerOptions options = {}) {
    if (options.program == ServerOptions().program) {
      options.program = FAKE_VPATCH;
    }
    options.vpatch = "1.2.3";
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    ASSERT_EQ(pipe2(in.data(), O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(out.data(), O_CLOEXEC), 0);
    input_.reset(in[1]);
    output_.reset(out[0]);
    thread_ = std::jthread([from = in[0], to = out[1], options] {
      run_server(UniqueFd(from), UniqueFd(to), options);
    });
  }

  void start_greeted(ServerOptions options = {}) {
    start(std::move(options));
    send(1, "hello", {{"version", kVersion}, {"vpatch", "test"}});
    ASSERT_TRUE(answer(1).result);
  }

  void send_bytes(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = write(input_.get(), bytes.data(), bytes.size());
      ASSERT_GT(written, 0);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  void send(std::int64_t id, std::string_view method, json::object params = {}) const {
    send_bytes(format_request(id, method, std::move(params)));
  }
  /// A request for a domain, whose name says what fake-vpatch does.
  void look(std::int64_t id, std::string_view domain) const {
    send(id, "look", {{"connection", "qemu:///system"}, {"domain", domain}});
  }

  /// The next message; none at the end of the stream.
  std::optional<Message> next() {
    for (;;) {
      if (const std::size_t end = unread_.find('\n', searched_); end != std::string::npos) {
        auto message = parse_message(unread_.substr(0, end));
        EXPECT_TRUE(message) << unread_;
        unread_.erase(0, end + 1);
        searched_ = 0;
        return message ? std::optional(*message) : std::nullopt;
      }
      searched_ = unread_.size();
      pollfd wait{output_.get(), POLLIN, 0};
      std::array<char, 65536> bytes{};
      const bool ready = poll(&wait, 1, static_cast<int>(kPatience.count())) == 1;
      const ssize_t length = ready ? read(output_.get(), bytes.data(), bytes.size()) : 0;
      EXPECT_TRUE(ready) << "the server is silent";
      if (length <= 0) {
        return std::nullopt;
      }
      unread_.append(bytes.data(), static_cast<std::size_t>(length));
    }
  }

  /// The next answer, after its notifications.
  Answer next_answer() {
    while (auto message = next()) {
      if (auto* answer = std::get_if<Answer>(&*message)) {
        return *answer;
      }
    }
    ADD_FAILURE() << "the stream has ended";
    return {{}, json::object{}};
  }
  Answer answer(std::int64_t id) {
    Answer found = next_answer();
    EXPECT_EQ(found.id, id);
    return found;
  }
  ErrorCode failure(std::optional<std::int64_t> id) {
    const Answer found = next_answer();
    EXPECT_EQ(found.id, id);
    EXPECT_FALSE(found.result);
    return found.result ? ErrorCode{} : found.result.error().code;
  }

  Notification next_notification(std::string_view method) {
    while (auto message = next()) {
      if (auto* told = std::get_if<Notification>(&*message); told && told->method == method) {
        return *told;
      }
    }
    ADD_FAILURE() << "the stream has ended";
    return {};
  }
  void await_lingering(std::int64_t id) {
    const auto told = next_notification("progress");
    EXPECT_EQ(told.params,
              (json::object{{"request", id}, {"kind", "step"}, {"text", "lingering"}}));
  }

  void end_input() { input_.reset(); }
  void hang_up() { output_.reset(); }
  /// Until run_server() has returned.
  void join() { thread_.join(); }

 private:
  UniqueFd output_;
  std::string unread_;
  std::size_t searched_ = 0;  ///< of it, for the end of a line
  std::jthread thread_;
  UniqueFd input_;
};

TEST_F(ServerTest, SaysWhichVersionItSpeaks) {
  start();
  send(1, "hello", {{"version", kVersion}, {"vpatch", "9.9"}});
  EXPECT_EQ(answer(1).result.value(), (json::object{{"version", 1}, {"vpatch", "1.2.3"}}));
}

TEST_F(ServerTest, SaysThatItDoesNotKnowAVersion) {
  start();
  send(1, "hello", {{"version", 2}, {"vpatch", "9.9"}});
  const Answer refused = answer(1);
  ASSERT_FALSE(refused.result);
  EXPECT_EQ(refused.result.error().code, ErrorCode::unknown_version);
  EXPECT_THAT(refused.result.error().text, HasSubstr("which speaks 1"));
  look(2, "web01");
  EXPECT_EQ(failure(2), ErrorCode::not_greeted);
}

TEST_F(ServerTest, WantsAWholeHelloFirst) {
  start();
  look(1, "web01");
  EXPECT_EQ(failure(1), ErrorCode::not_greeted);
  send(2, "put_file");
  EXPECT_EQ(failure(2), ErrorCode::not_greeted);
  send(3, "hello", {{"version", "1"}, {"vpatch", "9.9"}});
  EXPECT_EQ(failure(3), ErrorCode::invalid_params);
  send(4, "hello", {{"version", 1}});
  EXPECT_EQ(failure(4), ErrorCode::invalid_params);
}

TEST_F(ServerTest, AnswersWhatItCannotRead) {
  start_greeted();
  send_bytes("garbage\n");
  EXPECT_EQ(failure({}), ErrorCode::parse);
  send_bytes(R"({"jsonrpc":"2.0","id":5,"method":"look","params":7})"
             "\n");
  EXPECT_EQ(failure(5), ErrorCode::invalid_request);
  send_bytes(format_result(6, {}));
  EXPECT_EQ(failure({}), ErrorCode::invalid_request);
  send(7, "reboot");
  EXPECT_EQ(failure(7), ErrorCode::unknown_method);
  send(8, "look", {{"connection", "qemu:///system"}});
  EXPECT_EQ(failure(8), ErrorCode::invalid_params);
  send_bytes(format_notification("cancel", {}));  // is not answered
  look(9, "web01");
  EXPECT_TRUE(answer(9).result);
}

TEST_F(ServerTest, GivesAFileThatTheJournalKeeps) {
  const auto folder = std::filesystem::path(testing::TempDir()) / std::to_string(getpid());
  std::filesystem::create_directories(folder / "patches");
  std::ofstream(folder / "patches" / (std::string(kAbc) + ".ko")) << "abc";
  setenv("VPATCH_JOURNAL", (folder / "journal.db").c_str(), 1);
  start_greeted();
  send(2, "get_file", {{"sha256", kAbc}});
  EXPECT_EQ(answer(2).result.value(), (json::object{{"data", "YWJj"}, {"size", 3}}));
  send(3, "get_file", {{"sha256", std::string(64, 'a')}});
  EXPECT_EQ(failure(3), ErrorCode::invalid_params);
  send(4, "get_file", {{"sha256", kAbc}, {"file", "x"}});
  EXPECT_EQ(failure(4), ErrorCode::invalid_params);
  unsetenv("VPATCH_JOURNAL");
  std::filesystem::remove_all(folder);
}

TEST_F(ServerTest, GivesNoFileToAClientThatDoesNotRead) {
  const auto folder = std::filesystem::path(testing::TempDir()) / std::to_string(getpid());
  std::filesystem::create_directories(folder / "patches");
  const std::string zeros = kZeros;
  std::ofstream(folder / "patches" / (zeros + ".ko")) << "";
  std::filesystem::resize_file(folder / "patches" / (zeros + ".ko"), std::size_t{14} << 20);
  setenv("VPATCH_JOURNAL", (folder / "journal.db").c_str(), 1);
  start_greeted();
  send(2, "get_file", {{"sha256", zeros}});
  send(3, "get_file", {{"sha256", zeros}});
  EXPECT_TRUE(answer(2).result);
  EXPECT_EQ(failure(3), ErrorCode::busy);
  unsetenv("VPATCH_JOURNAL");
  std::filesystem::remove_all(folder);
}

TEST_F(ServerTest, EndsAtALineThatIsTooLong) {
  start_greeted();
  std::string line(kMaxLine + 1, 'x');
  send_bytes(line);
  EXPECT_EQ(failure({}), ErrorCode::parse);
  EXPECT_FALSE(next());
}

TEST_F(ServerTest, RunsTheVerbAndGivesItsReport) {
  start_greeted();
  look(2, "web01");
  EXPECT_EQ(answer(2).result.value(),
            (json::object{
                {"exit_code", 0},
                {"report", {{"words", "status --json --connect=qemu:///system --domain=web01"}}},
                {"errors", ""}}));
}

TEST_F(ServerTest, GivesTheExitCodeOfAVerbThatPrintsNothing) {
  start_greeted();
  look(2, "silent");
  EXPECT_EQ(answer(2).result.value(),
            (json::object{{"exit_code", 2}, {"report", nullptr}, {"errors", ""}}));
}

TEST_F(ServerTest, HandsAFileOfTheSessionToTheVerb) {
  start_greeted();
  send(2, "put_file", {{"sha256", kAbc}, {"data", "YWJk"}});
  EXPECT_EQ(failure(2), ErrorCode::invalid_params);
  send(3, "put_file", {{"sha256", kAbc}, {"data", "YWJj"}, {"path", "/etc/x"}});
  EXPECT_EQ(failure(3), ErrorCode::invalid_params);
  send(4, "put_file", {{"sha256", kAbc}, {"data", "YWJj"}});
  EXPECT_EQ(answer(4).result.value(), (json::object{{"size", 3}}));
  for (const std::int64_t id : {5, 6}) {
    send(id, "apply", {{"connection", "qemu:///system"}, {"domain", "sums"}, {"file", kAbc}});
    EXPECT_EQ(answer(id).result.value().at("report").at("sum"), kAbc);
  }
}

TEST_F(ServerTest, TakesALargeFile) {
  start_greeted();
  const std::string data(std::size_t{48} << 20, 'A');  // 36 MiB of zeros
  send(2, "put_file", {{"sha256", std::string(64, '0')}, {"data", data}});
  const Answer refused = answer(2);
  ASSERT_FALSE(refused.result);
  EXPECT_THAT(refused.result.error().text, HasSubstr("SHA-256"));
}

TEST_F(ServerTest, TellsWhatTheVerbSays) {
  start_greeted();
  look(2, "speaks");
  const auto told = [&](const char* kind, const char* text) {
    EXPECT_EQ(next_notification("progress").params,
              (json::object{{"request", 2}, {"kind", kind}, {"text", text}}));
  };
  told("step", "one");
  told("warning", "two");
  told("progress", "7 pending");
  told("progress", "thr?ee");
  told("progress", "last");
  EXPECT_EQ(answer(2).result.value().at("errors"), "- one; warning: two; thr?ee; last");
}

TEST_F(ServerTest, BoundsWhatAVerbSays) {
  start_greeted();
  look(2, "shouts");
  std::size_t told = 0;
  std::optional<Message> message;
  while ((message = next()) && std::holds_alternative<Notification>(*message)) {
    ++told;
  }
  EXPECT_EQ(told, 10'000U);
  const auto& result = std::get<Answer>(*message).result.value();
  EXPECT_THAT(std::string(result.at("errors").as_string()), testing::SizeIs(testing::Le(4096)));
  EXPECT_THAT(std::string(result.at("errors").as_string()), HasSubstr("20000; yyy"));
}

TEST_F(ServerTest, MakesAReportPrintable) {
  start_greeted();
  look(2, "bytes");
  EXPECT_EQ(answer(2).result.value().at("report"),
            (json::value{{"name?", json::array{"a?b?[2J\xc3\xa9"}}}));
}

TEST_F(ServerTest, DoesSeveralThingsAtOneTime) {
  start_greeted();
  look(2, "hangs");
  await_lingering(2);
  look(3, "web01");
  EXPECT_TRUE(answer(3).result);
  look(2, "web01");
  EXPECT_EQ(failure(2), ErrorCode::invalid_request);
}

TEST_F(ServerTest, DoesNotDoTooManyThings) {
  start_greeted({.max_running = 1});
  look(2, "hangs");
  look(3, "web01");
  EXPECT_EQ(failure(3), ErrorCode::busy);
}

TEST_F(ServerTest, CancelsAsCtrlC) {
  start_greeted();
  look(2, "hangs");
  await_lingering(2);
  send(3, "cancel", {{"request", 2}});
  EXPECT_EQ(answer(3).result.value(), (json::object{{"running", true}}));
  const Answer cancelled = answer(2);
  EXPECT_EQ(cancelled.result.value().at("exit_code"), 7);
  EXPECT_EQ(cancelled.result.value().at("report"), (json::value{{"interrupted", true}}));
  send(4, "cancel", {{"request", 2}});
  EXPECT_EQ(answer(4).result.value(), (json::object{{"running", false}}));
  send(5, "cancel", {{"request", "2"}});
  EXPECT_EQ(failure(5), ErrorCode::invalid_params);
}

TEST_F(ServerTest, TellsThatAVerbDied) {
  start_greeted();
  look(2, "dies");
  const Answer died = answer(2);
  ASSERT_FALSE(died.result);
  EXPECT_EQ(died.result.error().code, ErrorCode::child_failed);
  EXPECT_EQ(died.result.error().text, "the process was ended by signal 9: error: about to die");
}

TEST_F(ServerTest, EndsAVerbThatFloods) {
  start_greeted();
  look(2, "floods");
  const Answer flooded = answer(2);
  ASSERT_FALSE(flooded.result);
  EXPECT_EQ(flooded.result.error().code, ErrorCode::child_failed);
  EXPECT_THAT(flooded.result.error().text, HasSubstr("more than"));
}

TEST_F(ServerTest, TakesGarbageForAFailure) {
  start_greeted();
  look(2, "garbage");
  EXPECT_EQ(failure(2), ErrorCode::child_failed);
}

TEST_F(ServerTest, KillsWhatDoesNotEndWithinItsLimit) {
  start_greeted({.end_limit = 100ms});
  look(2, "deaf");
  await_lingering(2);
  send(3, "cancel", {{"request", 2}});
  EXPECT_TRUE(answer(3).result);
  const Answer killed = answer(2);
  ASSERT_FALSE(killed.result);
  EXPECT_THAT(killed.result.error().text, HasSubstr("signal 9"));
}

TEST_F(ServerTest, TellsThatAVerbCannotBeStarted) {
  start_greeted({.program = "/nonexistent/vpatch"});
  look(2, "web01");
  const Answer refused = answer(2);
  ASSERT_FALSE(refused.result);
  EXPECT_EQ(refused.result.error().code, ErrorCode::cannot_start);
  EXPECT_THAT(refused.result.error().text, HasSubstr("/nonexistent/vpatch: No such file"));
}

TEST_F(ServerTest, BeatsItsHeartAtRestAndAtWork) {
  start_greeted({.heartbeat = 20ms});
  EXPECT_EQ(next_notification("heartbeat").params, (json::object{{"running", 0}}));
  look(2, "hangs");
  await_lingering(2);
  EXPECT_EQ(next_notification("heartbeat").params, (json::object{{"running", 1}}));
  EXPECT_EQ(next_notification("heartbeat").params, (json::object{{"running", 1}}));
}

TEST_F(ServerTest, InterruptsAndAwaitsItsWorkAtTheEndOfTheInput) {
  start_greeted();
  look(2, "hangs");
  await_lingering(2);
  look(3, "hangs");
  await_lingering(3);
  end_input();
  EXPECT_EQ(next_answer().result.value().at("exit_code"), 7);
  EXPECT_EQ(next_answer().result.value().at("exit_code"), 7);
  EXPECT_FALSE(next());
  join();
}

class HungUpTest : public ServerTest {
 public:
  ~HungUpTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }

 protected:
  HungUpTest() {
    std::filesystem::path name = std::filesystem::temp_directory_path() / "vpatch-serve-XXXXXX";
    std::string text = name.string();
    EXPECT_NE(mkdtemp(text.data()), nullptr);
    folder = text;
    repaired = folder / "repaired";
  }

  std::filesystem::path folder;
  std::filesystem::path repaired;  ///< is there once the verb has ended its repair
};

TEST_F(HungUpTest, LetsRepairsEndBeforeItLeavesAClientThatIsGone) {
  start_greeted({.heartbeat = 1ms});
  look(2, repaired.string());
  await_lingering(2);
  hang_up();
  join();
  EXPECT_TRUE(std::filesystem::exists(repaired));
}

TEST_F(HungUpTest, TakesASignalForTheEndOfItsInput) {
  start_greeted();
  look(2, repaired.string());
  await_lingering(2);
  kill(getpid(), SIGTERM);
  EXPECT_EQ(answer(2).result.value().at("exit_code"), 7);
  EXPECT_FALSE(next());
  join();
  EXPECT_TRUE(std::filesystem::exists(repaired));
}

}  // namespace
}  // namespace vpatch::serve

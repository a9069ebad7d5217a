// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/client.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace vpatch::serve {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

/// Bound of a wait that only a broken test meets.
constexpr std::chrono::milliseconds kPatience = 60s;

/// A peer that answers hello as a server does, and then does what `script` says.
std::vector<std::string> greets_then(const std::string& script) {
  return {
      "sh", "-c",
      R"(read -r hello; echo '{"jsonrpc":"2.0","id":1,"result":{"version":1,"vpatch":"0"}}'; )" +
          script};
}

std::vector<std::string> real_server(const char* heartbeat_ms = "5000") {
  return {SERVE_PROGRAM, FAKE_VPATCH, heartbeat_ms};
}

json::object target(std::string_view domain) {
  return {{"connection", "qemu:///system"}, {"domain", domain}};
}

class ClientTest : public testing::Test {
 public:
  ~ClientTest() override {
    client.reset();
    context.run_for(0ms);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }

 protected:
  ClientTest() {
    std::string name = (std::filesystem::temp_directory_path() / "vpatch-client-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
  }

  void make(std::vector<std::string> command, ClientOptions options = {}) {
    options.vpatch = "test";
    client = std::make_unique<Client>(
        context.get_executor(), std::move(command), options,
        Client::Handlers{
            .connected = [this](const std::string& vpatch) { connected.push_back(vpatch); },
            .progress =
                [this](const Client::Progress& told) {
                  progress.push_back(fmt::format("{} {} {}", told.request, told.kind, told.text));
                },
            .lost = [this](const Error& error) { lost.push_back(error); }});
  }
  void connect(std::vector<std::string> command, ClientOptions options = {}) {
    make(std::move(command), std::move(options));
    client->connect();
    run_until([this] { return !connected.empty(); });
  }

  void run_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    context.restart();
    while (!done() && std::chrono::steady_clock::now() < end) {
      context.run_one_for(100ms);
      if (context.stopped()) {
        context.restart();
      }
    }
    ASSERT_TRUE(done());
  }

  std::int64_t call(std::string_view method, json::object params,
                    std::chrono::milliseconds timeout = kPatience) {
    return client->call(method, std::move(params), timeout,
                        [this](Client::Reply reply) { replies.push_back(std::move(reply)); });
  }
  Client::Reply reply_to(std::string_view method, json::object params,
                         std::chrono::milliseconds timeout = kPatience) {
    replies.clear();
    call(method, std::move(params), timeout);
    run_until([this] { return !replies.empty(); });
    return replies.empty() ? Client::Reply() : std::move(replies.front());
  }
  Error await_loss() {
    run_until([this] { return !lost.empty(); });
    return lost.empty() ? Error{} : lost.front();
  }

  std::filesystem::path folder;
  boost::asio::io_context context{1};
  std::unique_ptr<Client> client;
  std::vector<std::string> connected;
  std::vector<std::string> progress;
  std::vector<Error> lost;
  std::vector<Client::Reply> replies;
};

TEST_F(ClientTest, HasWorkDoneByAServer) {
  connect(real_server());
  EXPECT_THAT(connected, ElementsAre("1.2.3"));
  EXPECT_TRUE(client->is_connected());
  const auto reply = reply_to("look", target("web01"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->at("exit_code"), 0);
  EXPECT_EQ(reply->at("report").at("words"),
            "status --json --connect=qemu:///system --domain=web01");
  EXPECT_THAT(lost, testing::IsEmpty());
}

TEST_F(ClientTest, TellsHowItGoes) {
  connect(real_server());
  ASSERT_TRUE(reply_to("look", target("speaks")));
  EXPECT_THAT(progress, ElementsAre("2 step one", "2 warning two", "2 progress 7 pending",
                                    "2 progress thr?ee", "2 progress last"));
}

TEST_F(ClientTest, TellsFromAnErrorWhatBecameOfTheGuest) {
  connect(real_server());
  const auto refused = reply_to("apply", target("web01"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().outcome, Outcome::refused);
  EXPECT_EQ(refused.error().what, "apply: \"file\" is missing");
  const auto died = reply_to("look", target("dies"));
  ASSERT_FALSE(died);
  EXPECT_EQ(died.error().outcome, Outcome::failed_needs_look);
  EXPECT_TRUE(client->is_connected());
}

TEST_F(ClientTest, CancelsARequestThatIsThenAnswered) {
  connect(real_server());
  const std::int64_t id = call("look", target("hangs"));
  run_until([this] { return !progress.empty(); });
  client->cancel(id);
  run_until([this] { return !replies.empty(); });
  ASSERT_TRUE(replies.front());
  EXPECT_EQ(replies.front()->at("exit_code"), 7);
}

TEST_F(ClientTest, HasTheServerCancelWhatIsPastItsDeadline) {
  connect(real_server());
  const auto repaired = folder / "repaired";
  const auto late = reply_to("look", target(repaired.string()), 2s);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().outcome, Outcome::unreachable);
  EXPECT_THAT(late.error().what, HasSubstr("look: no answer within 2000 ms"));
  run_until([&] { return std::filesystem::exists(repaired); });
  // Its answer, which comes late, is no surprise.
  EXPECT_TRUE(reply_to("look", target("takes-a-while")));
  EXPECT_THAT(lost, testing::IsEmpty());
}

TEST_F(ClientTest, IsKeptAliveByHeartbeats) {
  connect(real_server("50"), {.silence = 1500ms});
  const auto slept = reply_to("look", target("takes-a-while"));
  ASSERT_TRUE(slept) << slept.error().what;
  EXPECT_THAT(lost, testing::IsEmpty());
}

TEST_F(ClientTest, TakesSilenceForDeath) {
  connect(real_server("60000"), {.silence = 300ms});
  call("look", target("hangs"));
  const Error error = await_loss();
  EXPECT_EQ(error.outcome, Outcome::unreachable);
  EXPECT_THAT(error.what, HasSubstr("no sign of life for 300 ms"));
  ASSERT_THAT(replies, testing::SizeIs(1));  // told before the loss
  ASSERT_FALSE(replies.front());
  EXPECT_EQ(replies.front().error().outcome, Outcome::unreachable);
  EXPECT_FALSE(client->is_connected());
}

TEST_F(ClientTest, FailsWhatIsOutstandingWhenThePeerStops) {
  connect(greets_then("read -r request; echo 'the host goes down' >&2; exit 1"));
  call("look", target("web01"));
  const Error error = await_loss();
  EXPECT_EQ(error.outcome, Outcome::unreachable);
  EXPECT_THAT(error.what, HasSubstr("it has ended: the host goes down"));
  ASSERT_THAT(replies, testing::SizeIs(1));
  EXPECT_FALSE(replies.front());
}

TEST_F(ClientTest, ConnectsAgainOnlyWhenTold) {
  const std::string first = (folder / "first").string();
  connect({"sh", "-c",
           fmt::format("if [ -e {0} ]; then exec {1} {2} 5000; fi; touch {0}; read -r hello; echo "
                       "'{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"version\":1,\"vpatch\":"
                       "\"0\"}}}}'; exit 1",
                       first, SERVE_PROGRAM, FAKE_VPATCH)});
  await_loss();
  const auto refused = reply_to("look", target("web01"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().outcome, Outcome::refused);
  EXPECT_THAT(refused.error().what, HasSubstr("no connection"));
  client->connect();
  run_until([this] { return connected.size() == 2; });
  EXPECT_THAT(connected, ElementsAre("0", "1.2.3"));
  EXPECT_TRUE(reply_to("look", target("web01")));
  EXPECT_THAT(lost, testing::SizeIs(1));
}

TEST_F(ClientTest, TellsWhyTheCommandFails) {
  make({"sh", "-c", "printf 'ssh: no route\\033[2J\\n' >&2; exit 255"});
  client->connect();
  const Error error = await_loss();
  EXPECT_EQ(error.outcome, Outcome::unreachable);
  EXPECT_THAT(error.what, HasSubstr("it has ended: ssh: no route?[2J"));
  EXPECT_THAT(connected, testing::IsEmpty());
}

TEST_F(ClientTest, NamesTheHostWithoutTheOptionsOfSsh) {
  make({"sh", "-c", "exit 255", "-oBatchMode=yes", "--", "host1", "vpatch", "serve"});
  client->connect();
  EXPECT_EQ(await_loss().what, "sh host1 vpatch serve: it has ended");
}

TEST_F(ClientTest, TellsThatTheCommandDoesNotStart) {
  make({"/nonexistent/ssh", "host"});
  client->connect();
  EXPECT_THAT(lost, testing::IsEmpty());  // not from inside the call
  EXPECT_THAT(await_loss().what, HasSubstr("No such file"));
}

TEST_F(ClientTest, DoesNotWaitForAGreetingForEver) {
  make({"sh", "-c", "read -r hello; read -r end"}, {.greeting = 200ms});
  client->connect();
  EXPECT_THAT(await_loss().what, HasSubstr("hello: no answer within 200 ms"));
}

TEST_F(ClientTest, DoesNotSpeakWithAServerOfAnotherVersion) {
  for (const char* answer :
       {R"({"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"speaks 9"}})",
        R"({"jsonrpc":"2.0","id":1,"result":{"version":9,"vpatch":"9"}})",
        R"({"jsonrpc":"2.0","id":1,"result":{"version":1}})"}) {
    lost.clear();
    make({"sh", "-c", fmt::format("read -r hello; echo '{}'; read -r end", answer)});
    client->connect();
    EXPECT_EQ(await_loss().outcome, Outcome::refused) << answer;
  }
  EXPECT_THAT(connected, testing::IsEmpty());
}

TEST_F(ClientTest, HangsUpOnAPeerThatBreaksTheProtocol) {
  for (
      const char* line : {
          "garbage",
          "[]",
          R"({"jsonrpc":"2.0","id":99,"result":{}})",
          R"({"jsonrpc":"2.0","id":2,"result":7})",
          R"({"jsonrpc":"2.0","id":2,"method":"look"})",
          R"({"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}})",
          R"({"jsonrpc":"2.0","method":"progress","params":{"request":2,"kind":"step"}})",
          R"({"jsonrpc":"2.0","method":"progress","params":{"request":2,"kind":"x","text":""}})",
          R"({"jsonrpc":"2.0","method":"progress","params":{"request":"2","kind":"step","text":""}})",
      }) {
    lost.clear();
    connected.clear();
    replies.clear();
    connect(greets_then(fmt::format("read -r request; echo '{}'; read -r end", line)));
    call("look", target("web01"));
    const Error error = await_loss();
    EXPECT_EQ(error.outcome, Outcome::unreachable) << line;
    EXPECT_THAT(error.what, testing::Not(testing::AnyOf(HasSubstr("it has ended"),
                                                        HasSubstr("no sign of life"))))
        << line;
    ASSERT_THAT(replies, testing::SizeIs(1)) << line;
    EXPECT_FALSE(replies.front()) << line;
  }
}

TEST_F(ClientTest, HangsUpOnALineWithoutAnEnd) {
  connect(greets_then("exec cat /dev/zero"));
  EXPECT_THAT(await_loss().what, HasSubstr("a line is over 67108864 bytes"));
}

TEST_F(ClientTest, PassesOverNotificationsOfANewerServer) {
  connect(greets_then(
      R"(read -r request; echo '{"jsonrpc":"2.0","method":"weather","params":{"rain":true}}'; )"
      R"(echo '{"jsonrpc":"2.0","id":2,"result":{"name":"a\u001bb"}}'; read -r end)"));
  const auto reply = reply_to("look", target("web01"));
  ASSERT_TRUE(reply) << reply.error().what;
  EXPECT_EQ(reply->at("name"), "a?b");
}

TEST_F(ClientTest, LeavesRepairsToTheServerWhenItCloses) {
  connect(real_server());
  const auto repaired = folder / "repaired";
  call("look", target(repaired.string()));
  run_until([this] { return !progress.empty(); });
  client->close();
  run_until([this] { return !replies.empty(); });
  EXPECT_FALSE(replies.front());
  run_until([&] { return std::filesystem::exists(repaired); });
  EXPECT_THAT(lost, testing::IsEmpty());
}

TEST_F(ClientTest, MayBeDestroyedByItsHandler) {
  connect(real_server());
  bool told = false;
  client->call("look", target("web01"), kPatience, [&](const Client::Reply&) {
    client.reset();
    told = true;
  });
  run_until([&] { return told; });
  EXPECT_EQ(client, nullptr);
}

}  // namespace
}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include <span>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "qmp/base64.h"
#include "qmp/guest_agent.h"
#include "scripted_channel.h"

namespace vpatch::qmp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr std::size_t kChunk = std::size_t{24} << 10;

std::string count(std::size_t bytes) {
  return "{\"count\": " + std::to_string(bytes) + ", \"eof\": false}";
}

std::string piece(std::string_view bytes, bool eof) {
  return "{\"count\": " + std::to_string(bytes.size()) + ", \"buf-b64\": \"" +
         base64_encode(std::as_bytes(std::span(bytes))) +
         "\", \"eof\": " + (eof ? "true" : "false") + "}";
}

class GuestFileTest : public testing::Test {
 protected:
  Result<void> write(std::string_view data, const CallOptions& options = kPatient) {
    return agent_.write_file(
        "/run/patch.ko", std::as_bytes(std::span(data)), options,
        [this](std::size_t done, std::size_t total) { progress_.emplace_back(done, total); });
  }
  Result<std::string> read(std::size_t max_bytes) {
    return agent_.read_file("/proc/version", max_bytes, kPatient);
  }
  /// The bytes of the write command at `index`.
  std::string written(std::size_t index) {
    return base64_decode(channel_.sent.at(index).arguments.at("buf-b64").as_string())
        .value_or("(not base64)");
  }

  ScriptedChannel channel_;
  GuestAgent agent_{channel_};
  std::vector<std::pair<std::size_t, std::size_t>> progress_;
};

TEST_F(GuestFileTest, WriteOpensWritesFlushesAndCloses) {
  channel_.then("1000").then(count(5)).then("{}").then("{}");
  const auto outcome = write("hello");
  ASSERT_TRUE(outcome.has_value()) << outcome.error().what;
  EXPECT_THAT(channel_.commands(), ElementsAre("guest-file-open", "guest-file-write",
                                               "guest-file-flush", "guest-file-close"));
  EXPECT_EQ(channel_.sent[0].arguments.at("path").as_string(), "/run/patch.ko");
  EXPECT_EQ(channel_.sent[0].arguments.at("mode").as_string(), "wb");
  EXPECT_EQ(written(1), "hello");
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(channel_.sent[i].arguments.at("handle").as_int64(), 1000);
  }
}

TEST_F(GuestFileTest, WritesAnEmptyFile) {
  channel_.then("1").then("{}").then("{}");
  EXPECT_TRUE(write("").has_value());
  EXPECT_THAT(channel_.commands(),
              ElementsAre("guest-file-open", "guest-file-flush", "guest-file-close"));
}

TEST_F(GuestFileTest, WritesALargeFileInChunksAndTellsProgress) {
  channel_.then("1").then(count(kChunk)).then(count(10)).then("{}").then("{}");
  ASSERT_TRUE(write(std::string(kChunk, 'a') + "0123456789").has_value());
  EXPECT_EQ(written(1), std::string(kChunk, 'a'));
  EXPECT_EQ(written(2), "0123456789");
  EXPECT_THAT(progress_, ElementsAre(Pair(kChunk, kChunk + 10), Pair(kChunk + 10, kChunk + 10)));
}

TEST_F(GuestFileTest, ShortWriteIsContinued) {
  channel_.then("1").then(count(4)).then(count(6)).then("{}").then("{}");
  ASSERT_TRUE(write("0123456789").has_value());
  EXPECT_EQ(written(2), "456789");
}

TEST_F(GuestFileTest, EndlessShortWritesAreAProtocolError) {
  channel_.then("1");
  for (int i = 0; i < 100; ++i) {
    channel_.then(count(1));
  }
  EXPECT_EQ(write(std::string(1000, 'a')).error().code, Errc::protocol);
}

TEST_F(GuestFileTest, AgentThatDiesInTheMiddleOfAWriteIsReportedAndTheHandleClosed) {
  channel_.then("1").then(count(kChunk)).then_fail(Errc::timeout, "silence");
  const auto outcome = write(std::string(3 * kChunk, 'a'));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, Errc::timeout);
  EXPECT_THAT(outcome.error().what, HasSubstr("/run/patch.ko"));
  EXPECT_THAT(channel_.commands(), ElementsAre("guest-file-open", "guest-file-write",
                                               "guest-file-write", "guest-file-close"));
}

TEST_F(GuestFileTest, CancelledWriteStillClosesTheHandle) {
  std::stop_source stop;
  stop.request_stop();
  channel_.then("1").then_fail(Errc::cancelled);
  EXPECT_EQ(write("hello", {.timeout = kPatient.timeout, .stop = stop.get_token()}).error().code,
            Errc::cancelled);
  EXPECT_EQ(channel_.sent.back().command, "guest-file-close");
  EXPECT_FALSE(channel_.sent.back().options.stop.stop_requested());
}

TEST_F(GuestFileTest, FailedFlushFailsTheWriteAndClosesOnce) {
  channel_.then("1").then(count(5)).then_fail(Errc::command, "No space left on device");
  EXPECT_THAT(write("hello").error().what, HasSubstr("No space left"));
  EXPECT_THAT(channel_.commands(), ElementsAre("guest-file-open", "guest-file-write",
                                               "guest-file-flush", "guest-file-close"));
}

TEST_F(GuestFileTest, FailedCloseFailsTheWriteAndIsNotRepeated) {
  channel_.then("1").then(count(5)).then("{}").then_fail(Errc::command);
  EXPECT_EQ(write("hello").error().code, Errc::command);
  EXPECT_EQ(channel_.sent.size(), 4U);
}

TEST_F(GuestFileTest, FailedOpenSendsNothingMore) {
  channel_.then_fail(Errc::command, "Read-only file system");
  EXPECT_EQ(write("hello").error().code, Errc::command);
  EXPECT_EQ(channel_.sent.size(), 1U);
}

TEST_F(GuestFileTest, HandleOfAnotherTypeIsAProtocolError) {
  channel_.then("{\"handle\": 1}");
  EXPECT_EQ(write("hello").error().code, Errc::protocol);
}

class GuestWriteHostileTest : public GuestFileTest,
                              public testing::WithParamInterface<const char*> {};

TEST_P(GuestWriteHostileTest, WrongCountIsAProtocolError) {
  channel_.then("1").then(GetParam());
  EXPECT_EQ(write("hello").error().code, Errc::protocol);
  EXPECT_EQ(channel_.sent.back().command, "guest-file-close");
}

INSTANTIATE_TEST_SUITE_P(Replies, GuestWriteHostileTest,
                         testing::Values("5", "{}", R"({"count": 0})", R"({"count": -1})",
                                         R"({"count": 6})", R"({"count": "5"})",
                                         R"({"count": 5.0})",
                                         R"({"count": 18446744073709551615})"));

TEST_F(GuestFileTest, ReadJoinsPiecesUntilTheEnd) {
  channel_.then("7").then(piece("Linux ", false)).then(piece("6.1", true)).then("{}");
  const auto bytes = read(100);
  ASSERT_TRUE(bytes.has_value()) << bytes.error().what;
  EXPECT_EQ(*bytes, "Linux 6.1");
  EXPECT_EQ(channel_.sent[0].arguments.at("mode").as_string(), "rb");
  EXPECT_EQ(channel_.sent.back().command, "guest-file-close");
}

TEST_F(GuestFileTest, ReadsAFileThatIsExactlyAtTheCap) {
  channel_.then("7").then(piece("12345", true)).then("{}");
  EXPECT_EQ(read(5).value_or(""), "12345");
  EXPECT_EQ(channel_.sent[1].arguments.at("count").as_int64(), 6);
}

TEST_F(GuestFileTest, FileOverTheCapIsTooLarge) {
  channel_.then("7").then(piece("123456", false));
  EXPECT_EQ(read(5).error().code, Errc::too_large);
  EXPECT_EQ(channel_.sent.back().command, "guest-file-close");
}

TEST_F(GuestFileTest, EndlessEmptyReadsAreAProtocolError) {
  channel_.then("7");
  for (int i = 0; i < 100; ++i) {
    channel_.then(piece("", false));
  }
  EXPECT_EQ(read(5).error().code, Errc::protocol);
}

class GuestReadHostileTest : public GuestFileTest,
                             public testing::WithParamInterface<const char*> {};

TEST_P(GuestReadHostileTest, WrongPieceIsAProtocolError) {
  channel_.then("7").then(GetParam());
  EXPECT_EQ(read(5).error().code, Errc::protocol);
}

INSTANTIATE_TEST_SUITE_P(Replies, GuestReadHostileTest,
                         testing::Values("null", R"({"count": 1, "buf-b64": "YQ=="})",
                                         R"({"count": 1, "buf-b64": "YQ==", "eof": 1})",
                                         R"({"count": 2, "buf-b64": "YQ==", "eof": true})",
                                         R"({"count": -1, "buf-b64": "", "eof": true})",
                                         R"({"count": 7, "buf-b64": "MTIzNDU2Nw==", "eof": true})",
                                         R"({"count": 1, "buf-b64": "YQ", "eof": true})",
                                         R"({"count": 1, "buf-b64": 5, "eof": true})",
                                         R"({"count": 1, "eof": true})"));

}  // namespace
}  // namespace vpatch::qmp

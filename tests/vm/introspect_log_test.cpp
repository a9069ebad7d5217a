// SPDX-License-Identifier: Apache-2.0
// The kernel log that vpatch reads from outside is the guest's own.
#include <algorithm>
#include <csignal>
#include <sstream>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/look_fixture.h"

namespace vpatch::test {
namespace {

constexpr std::chrono::seconds kPatience{20};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

std::uint64_t priority_of(const boost::json::object& record) {
  return number_of(record, "facility") * 8 + number_of(record, "level");
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// As `dmesg -r` prints them, where only tabs come as they are: each line of a record with the
/// record's prefix.
std::vector<std::string> raw_lines(const boost::json::object& answer) {
  std::vector<std::string> lines;
  for (const auto& entry : answer.at("records").as_array()) {
    const auto& record = entry.as_object();
    const std::uint64_t us = number_of(record, "time_ns") / 1000;
    const std::string prefix =
        fmt::format("<{}>[{:5}.{:06}] ", priority_of(record), us / 1'000'000, us % 1'000'000);
    const auto texts = lines_of(text_of(record, "text"));
    for (const std::string& text : texts) {
      lines.push_back(prefix + text);
    }
    if (texts.empty()) {
      lines.push_back(prefix);
    }
  }
  return lines;
}

/// As a reader of /dev/kmsg gets them, without the flag: priority,sequence,time,text.
std::vector<std::string> kmsg_lines(const boost::json::object& answer) {
  std::vector<std::string> lines;
  for (const auto& entry : answer.at("records").as_array()) {
    const auto& record = entry.as_object();
    const auto text = replaced(replaced(text_of(record, "text"), "\n", "\\x0a"), "\t", "\\x09");
    lines.push_back(fmt::format("{},{},{},{}", priority_of(record), number_of(record, "sequence"),
                                number_of(record, "time_ns") / 1000, text));
  }
  return lines;
}

void expect_equal(const std::vector<std::string>& ours, const std::vector<std::string>& guest) {
  EXPECT_EQ(ours.size(), guest.size());
  const auto [at, other] = std::ranges::mismatch(ours, guest);
  EXPECT_TRUE(at == ours.end() && other == guest.end())
      << "first difference, at line " << at - ours.begin()
      << "\nvpatch: " << (at == ours.end() ? "(end)" : *at)
      << "\nguest:  " << (other == guest.end() ? "(end)" : *other);
}

/// What a shell command in the guest prints, and what vpatch reads while that is the same.
template <class Use>
void with_steady(const TestVm& vm, const std::string& command, const Use& use) {
  std::string guest;
  boost::json::object answer;
  ASSERT_TRUE(eventually([&] {
    guest = vm.guest(command);
    answer = look(vm, "log");
    return vm.guest(command) == guest;
  }));
  use(lines_of(guest), answer);
}

TEST_F(LookTest, LogIsWhatDmesgPrints) {
  vm().guest(
      "echo '<30>vpatch-test: from a daemon' >/dev/kmsg; "
      "printf 'vpatch-test: two\\nlines' >/dev/kmsg");
  with_steady(vm(), "dmesg -r", [](const auto& guest, const boost::json::object& answer) {
    expect_equal(raw_lines(answer), guest);
    fmt::print("log: kernel {}: {} records, {} lines as in dmesg -r\n", kernel(),
               answer.at("records").as_array().size(), guest.size());
  });
}

TEST_F(LookTest, LogIsWhatKmsgHoldsAfterTheRingHasWrapped) {
  // 128 KiB of text, and one more record than there are descriptors for it.
  vm().guest(
      "i=0; while [ $i -lt 4200 ]; do i=$((i+1)); "
      "echo \"vpatch-test: record $i of those that fill the ring buffer up to its end\"; "
      "done | while read -r line; do echo \"$line\" >/dev/kmsg; done");
  const std::string kmsg = "timeout 2 cat /dev/kmsg | sed -n 's/,-;/,/p'";
  with_steady(vm(), kmsg, [](const auto& guest, const boost::json::object& answer) {
    ASSERT_FALSE(answer.at("records").as_array().empty());
    EXPECT_GT(number_of(answer.at("records").at(0).as_object(), "sequence"), 0U);
    expect_equal(kmsg_lines(answer), guest);
    fmt::print("log: kernel {}: after a wrap {} records as in /dev/kmsg\n", kernel(), guest.size());
  });
}

TEST_F(LookTest, LogOfTheNewestRecordsEndsWithTheNewest) {
  vm().guest("echo 'vpatch-test: one before'; echo 'vpatch-test: the newest' >/dev/kmsg");
  const auto answer = look(vm(), "log", {"--lines", "1"});
  ASSERT_EQ(answer.at("records").as_array().size(), 1U);
  EXPECT_EQ(text_of(answer.at("records").at(0).as_object(), "text"), "vpatch-test: the newest");
}

TEST_F(LookTest, FollowedLogShowsANewRecordAndEndsWithCtrlC) {
  // The follower holds the only connection of a plain QEMU's monitor, without which no test reaches
  // the agent: the guest is told before.
  const std::string line = "vpatch-test: while somebody follows";
  vm().guest("(sleep 4; echo '" + line + "' >/dev/kmsg) </dev/null >/dev/null 2>&1 &");
  Process follower(vm().vpatch_argv("log", {"--follow", "--lines", "1"}));
  ASSERT_TRUE(eventually([&] { return !follower.out_so_far().empty(); }, kPatience));
  ASSERT_EQ(follower.out_so_far().find(line), std::string::npos) << "written too early";
  EXPECT_TRUE(
      eventually([&] { return follower.out_so_far().find(line) != std::string::npos; }, kPatience));
  EXPECT_TRUE(follower.running());
  follower.signal(SIGINT);
  ASSERT_TRUE(eventually([&] { return !follower.running(); }, kPatience));
  const ProcessResult result = follower.wait();
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.err, "") << result;
}

}  // namespace
}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/journal/journal_support.h"

#include <array>
#include <cstdlib>

#include <sys/wait.h>
#include <unistd.h>

namespace vpatch {

JournalTest::JournalTest() {
  std::string name = testing::TempDir() + "vpatch-journal-XXXXXX";
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  folder_ = name;
}

JournalTest::~JournalTest() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Journal JournalTest::open(std::chrono::milliseconds patience) const {
  return Journal::open(file(), patience).value();
}

OperationStart some_start() {
  return {.verb = "apply",
          .domain = "web01",
          .identity = "e5f7a0a2-6f2b-4ad5-9d3c-6a1c3c8f3f11",
          .patch = "fix_pipe",
          .patch_version = "1.2",
          .file_sha256 = std::string(64, 'a'),
          .patch_build_id = std::string(40, 'b'),
          .vpatch_version = "0.1.0",
          .guest_release = "6.1.0-56-cloud-amd64",
          .boot_id = "0b4f2a9e-9d0e-4a5c-8f57-2f5b8a1f0c11"};
}

OperationEnd some_end() {
  return {.outcome = Outcome::stalled_reverted,
          .summary = "fix_pipe stalled and was reverted",
          .transition_us = 15'000,
          .pause_us = 3700,
          .pauses = 2,
          .retries = 3,
          .signals = 1,
          .switches = 4};
}

Registration some_registration() {
  return {.identity = "e5f7a0a2-6f2b-4ad5-9d3c-6a1c3c8f3f11",
          .domain = "web01",
          .connection = "qemu:///system",
          .patch = "fix_pipe",
          .patch_version = "1.2",
          .file = "/root/fix.ko",
          .file_sha256 = std::string(64, 'a'),
          .release = "6.1.0-56-cloud-amd64"};
}

std::span<const std::byte> some_file() {
  static constexpr std::array<std::byte, 4> kBytes{std::byte{0x7f}, std::byte{'E'}, std::byte{'L'},
                                                   std::byte{'F'}};
  return kBytes;
}

InChild::InChild(const std::function<std::string()>& function) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) {
    return;
  }
  text_ = introspect::UniqueFd(ends[0]);
  pid_ = fork();
  if (pid_ == 0) {
    const std::string text = function();
    const bool told = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(told ? 0 : 1);
  }
  close(ends[1]);
}

std::string InChild::wait() {
  std::string text;
  std::array<char, 512> buffer{};
  for (ssize_t got = 0; (got = read(text_.get(), buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  const bool ended = pid_ > 0 && waitpid(pid_, &status, 0) == pid_;
  return ended && status == 0 ? text : "the child ended with status " + std::to_string(status);
}

std::string in_child(const std::function<std::string()>& function) {
  return InChild(function).wait();
}

}  // namespace vpatch

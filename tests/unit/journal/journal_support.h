// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include <gtest/gtest.h>
#include <sys/types.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/journal/journal.h"

namespace vpatch {

/// A folder of its own, and where a journal may be in it.
class JournalTest : public testing::Test {
 public:
  ~JournalTest() override;

 protected:
  JournalTest();

  std::filesystem::path folder() const { return folder_; }
  std::filesystem::path file() const { return folder_ / "state" / "journal.db"; }
  Journal open(std::chrono::milliseconds patience = Journal::kPatience) const;

 private:
  std::filesystem::path folder_;
};

/// An operation such as apply's.
OperationStart some_start();
OperationEnd some_end();
/// A livepatch registered for the same domain, and what its file holds.
Registration some_registration();
std::span<const std::byte> some_file();

/// A function that runs in a child process.
class InChild {
 public:
  explicit InChild(const std::function<std::string()>& function);
  /// Its text, or how the child ended; once.
  std::string wait();

 private:
  introspect::UniqueFd text_;
  pid_t pid_ = -1;
};

/// The same, waited for.
std::string in_child(const std::function<std::string()>& function);

}  // namespace vpatch

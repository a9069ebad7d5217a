// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "vmm-agent/journal/journal.h"

namespace vpatch {

/// A folder of its own, and where a journal may be in it.
class JournalTest : public testing::Test {
 protected:
  JournalTest();
  ~JournalTest() override;

  std::filesystem::path folder() const { return folder_; }
  std::filesystem::path file() const { return folder_ / "state" / "journal.db"; }
  Journal open(std::chrono::milliseconds patience = Journal::kPatience) const;

 private:
  std::filesystem::path folder_;
};

/// An operation such as apply's.
OperationStart some_start();
OperationEnd some_end();

/// Runs `function` in a child process; returns its text, or how the child ended.
std::string in_child(const std::function<std::string()>& function);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/kept_file.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace vpatch {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::size_t kLimit = 1000;

class KeptFile : public testing::Test {
 public:
  ~KeptFile() override { fs::remove_all(folder_); }

 protected:
  KeptFile() { fs::create_directories(folder_ / "patches"); }

  fs::path copy(const std::string& sha256 = kAbc) const {
    return folder_ / "patches" / (sha256 + ".ko");
  }
  std::string refusal(const std::string& sha256 = kAbc) const {
    const auto bytes = read_kept_file(folder_ / "journal.db", sha256, kLimit);
    return bytes ? "" : bytes.error().what;
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / fmt::format("kept-{}", getpid());
};

TEST_F(KeptFile, IsTheJournalsCopy) {
  std::ofstream(copy()) << "abc";
  EXPECT_EQ(read_kept_file(folder_ / "journal.db", kAbc, 3).value(),
            (std::vector{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}}));
}

TEST_F(KeptFile, IsNamedByASha256Alone) {
  std::ofstream(folder_ / "secret.ko") << "abc";
  for (const std::string& name :
       {std::string("../secret"), std::string(), std::string(kAbc) + "a", std::string(63, 'a'),
        std::string("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD")}) {
    EXPECT_THAT(refusal(name), HasSubstr("64 digits")) << name;
  }
}

TEST_F(KeptFile, ThatIsNotThereIsRefused) {
  EXPECT_THAT(refusal(), HasSubstr("keeps no copy"));
}

TEST_F(KeptFile, ThatIsAnotherIsRefused) {
  std::ofstream(copy()) << "abd";
  EXPECT_THAT(refusal(), HasSubstr("damaged"));
}

TEST_F(KeptFile, ThatIsTooLargeIsRefused) {
  std::ofstream(copy()) << "abc";
  fs::resize_file(copy(), kLimit + 1);
  EXPECT_THAT(refusal(), HasSubstr("at most"));
}

TEST_F(KeptFile, ThatIsALinkOrNoFileIsRefused) {
  std::ofstream(folder_ / "secret.ko") << "abc";
  fs::create_symlink(folder_ / "secret.ko", copy());
  EXPECT_THAT(refusal(), HasSubstr("cannot be read"));
  fs::remove(copy());
  fs::create_directory(copy());
  EXPECT_NE(refusal(), "");
}

}  // namespace
}  // namespace vpatch

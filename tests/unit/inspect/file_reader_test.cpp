// SPDX-License-Identifier: Apache-2.0
// read_livepatch() on whatever a path may lead to.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::EndsWith;

class FileReader : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "inspect-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  std::filesystem::path path(const std::string& name) const { return directory_ / name; }

  std::filesystem::path write(const std::string& name, const Bytes& bytes) const {
    std::ofstream file(path(name), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }

  static std::string refusal_of(const std::filesystem::path& path) {
    const auto file = read_livepatch(path);
    if (file) return "not refused";
    EXPECT_EQ(file.error().outcome, Outcome::refused);
    EXPECT_FALSE(file.error().hint.empty());
    return file.error().what;
  }

 private:
  std::filesystem::path directory_;
};

TEST_F(FileReader, ReadsModuleWholeWithItsChecksum) {
  const auto bytes = make_livepatch().build();
  const auto file = read_livepatch(write("demo.ko", bytes));
  ASSERT_TRUE(file) << file.error().what;
  EXPECT_EQ(file->bytes, bytes);
  EXPECT_EQ(file->sha256.size(), 64U);
}

TEST_F(FileReader, FollowsSymbolicLinkToModule) {
  const auto target = write("demo.ko", make_livepatch().build());
  std::filesystem::create_symlink(target, path("link.ko"));
  EXPECT_TRUE(read_livepatch(path("link.ko")));
}

TEST_F(FileReader, RefusesMissingFileByItsPath) {
  EXPECT_EQ(refusal_of(path("none.ko")), path("none.ko").string() + ": no such file");
}

TEST_F(FileReader, RefusesPathThroughFile) {
  EXPECT_THAT(refusal_of(write("demo.ko", Bytes(8)) / "x"), EndsWith("no such file"));
}

TEST_F(FileReader, RefusesDirectory) {
  EXPECT_THAT(refusal_of(path("")), EndsWith("a directory, not a regular file"));
}

TEST_F(FileReader, RefusesFifoWithoutBlocking) {
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_THAT(refusal_of(path("fifo")), EndsWith("a FIFO, not a regular file"));
}

TEST_F(FileReader, RefusesDevice) {
  EXPECT_THAT(refusal_of("/dev/zero"), EndsWith("a device, not a regular file"));
}

TEST_F(FileReader, RefusesUnreadableFile) {
  const auto file = write("demo.ko", make_livepatch().build());
  std::filesystem::permissions(file, std::filesystem::perms::none);
  const bool is_root = geteuid() == 0;  // who reads every file
  constexpr uid_t kNobody = 65534;
  if (is_root) {
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  const auto what = refusal_of(file);
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_THAT(what, EndsWith("cannot be opened: Permission denied"));
}

TEST_F(FileReader, RefusesEmptyFile) {
  EXPECT_THAT(refusal_of(write("empty.ko", {})), EndsWith("empty file"));
}

TEST_F(FileReader, RefusesFileOverLimitWithoutReadingIt) {
  const auto file = write("big.ko", Bytes(8));
  std::filesystem::resize_file(file, (std::uintmax_t{64} << 20) + 1);
  EXPECT_THAT(refusal_of(file), EndsWith("67108865 bytes long, more than the limit of 64 MiB"));
}

TEST_F(FileReader, ReadsFileAtLimit) {
  const auto file = write("big.ko", Bytes(8));
  std::filesystem::resize_file(file, std::uintmax_t{64} << 20);
  EXPECT_THAT(refusal_of(file), EndsWith("not an ELF file"));
}

TEST_F(FileReader, RefusesFileWithoutSizeInProc) {
  EXPECT_THAT(refusal_of("/proc/self/status"), EndsWith("empty file"));
}

}  // namespace
}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/boot_cache.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vpatch {
namespace {

using introspect::BootFacts;
using introspect::GuestPhysAddr;
using introspect::GuestVirtAddr;

BootFacts some_facts() {
  BootFacts facts;
  facts.note = GuestPhysAddr(0x1234000);
  facts.evidence = introspect::Evidence::booted;
  facts.text.release = "6.1.0-test";
  facts.text.build_id = "00ff";
  facts.text.kernel_offset = 0xffffffffffffffff;
  facts.text.phys_base = -4096;
  facts.text.symbols["init_task"] = GuestVirtAddr(0xffffffff82000000);
  facts.boot_stamp = 18'000'000'000'000'000'000U;
  facts.members["task_struct pid"] = introspect::Member{64, 32, 1};
  facts.members["task_struct nope"] = std::nullopt;
  facts.sizes["list_head"] = 16;
  facts.enumerators["minus"] = -5;
  facts.symbols["klp_mutex"] = 0xffffffff82345678;
  facts.symbols["absent"] = std::nullopt;
  return facts;
}

class BootCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "vpatch-cache-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::filesystem::path file() const { return folder / "boot" / "vm.json"; }

  std::filesystem::path folder;
};

TEST(BootFactsText, ComesBackAsItWas) {
  EXPECT_EQ(parse_boot_facts(to_text(some_facts())), some_facts());
}

TEST(BootFactsText, ComesBackAsItWasWhenEmpty) {
  EXPECT_EQ(parse_boot_facts(to_text(BootFacts{})), BootFacts{});
}

TEST(BootFactsText, IsRefusedAtEveryTruncation) {
  const std::string text = to_text(some_facts());
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_FALSE(parse_boot_facts(text.substr(0, length)).has_value()) << length;
  }
}

TEST(BootFactsText, IsRefusedWithValuesOfAnotherKind) {
  for (const char* const text :
       {"[]", "1", "{}", R"({"version":1})", R"({"version":"1"})",
        R"({"version":2,"note":-1,"text":{},"boot_stamp":0,"members":[],"sizes":{}})"}) {
    EXPECT_FALSE(parse_boot_facts(text).has_value()) << text;
  }
}

TEST_F(BootCacheTest, LoadsWhatWasSaved) {
  const BootCache cache(folder);
  cache.save("vm", some_facts());
  EXPECT_EQ(cache.load("vm"), some_facts());
}

TEST_F(BootCacheTest, HasNothingForAnotherVm) {
  const BootCache cache(folder);
  cache.save("vm", some_facts());
  EXPECT_EQ(cache.load("other"), std::nullopt);
}

TEST_F(BootCacheTest, KeepsItsFilesPrivate) {
  BootCache(folder).save("vm", some_facts());
  struct stat status{};
  ASSERT_EQ(stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
}

TEST_F(BootCacheTest, LeavesNoTemporaryFile) {
  BootCache(folder).save("vm", some_facts());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder / "boot")) {
    ++files;
  }
  EXPECT_EQ(files, 1U);
}

TEST_F(BootCacheTest, DoesNotBelieveAFileThatOthersCanWrite) {
  BootCache(folder).save("vm", some_facts());
  ASSERT_EQ(chmod(file().c_str(), 0666), 0);
  EXPECT_EQ(BootCache(folder).load("vm"), std::nullopt);
}

TEST_F(BootCacheTest, DoesNotFollowALink) {
  BootCache(folder).save("vm", some_facts());
  std::filesystem::rename(file(), folder / "elsewhere");
  std::filesystem::create_symlink(folder / "elsewhere", file());
  EXPECT_EQ(BootCache(folder).load("vm"), std::nullopt);
}

TEST_F(BootCacheTest, TakesADamagedFileForNone) {
  BootCache(folder).save("vm", some_facts());
  std::ofstream(file(), std::ios::trunc) << "{";
  EXPECT_EQ(BootCache(folder).load("vm"), std::nullopt);
}

TEST_F(BootCacheTest, DoesWithoutAFolderItCannotMake) {
  std::ofstream(folder / "file") << "x";
  const BootCache cache(folder / "file");
  cache.save("vm", some_facts());
  EXPECT_EQ(cache.load("vm"), std::nullopt);
}

}  // namespace
}  // namespace vpatch

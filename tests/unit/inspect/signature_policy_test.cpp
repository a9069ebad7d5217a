// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/signature_policy.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class PolicyTest : public testing::Test {
 public:
  ~PolicyTest() override { std::filesystem::remove_all(folder); }

 protected:
  PolicyTest() {
    std::string pattern = testing::TempDir() + "vpatch-policy-XXXXXX";
    folder = ::mkdtemp(pattern.data());
  }

  Result<SignaturePolicy> read(const std::string& text, unsigned mode = 0644) const {
    std::ofstream(folder / "policy.yaml") << text;
    std::filesystem::permissions(folder / "policy.yaml", std::filesystem::perms{mode});
    return read_signature_policy(folder / "policy.yaml");
  }

  std::filesystem::path folder;
};

TEST_F(PolicyTest, HasARuleAndCertificates) {
  const auto policy = read("require_signed: true\ncertificates: [/etc/keys, release.pem]\n");
  ASSERT_TRUE(policy.has_value()) << policy.error().what;
  EXPECT_TRUE(policy->require_signed);
  EXPECT_THAT(policy->certificates,
              ElementsAre(std::filesystem::path("/etc/keys"), folder / "release.pem"));
}

TEST_F(PolicyTest, AsksForNothingWhenItSaysNothing) {
  const auto policy = read("# nothing yet\n");
  ASSERT_TRUE(policy.has_value()) << policy.error().what;
  EXPECT_FALSE(policy->require_signed);
  EXPECT_THAT(policy->certificates, IsEmpty());
}

TEST_F(PolicyTest, IsRefusedWhenARuleIsNotUnderstood) {
  for (const char* const text :
       {"require_singed: true\n", "require_signed: perhaps\n", "certificates: 7: 8\n",
        "certificates: {a: b}\n", "- require_signed\n", "require_signed: [\n", "\t- x",
        "require_signed: true\nrequire_signed: false\n",
        "require_signed: false\n---\nrequire_signed: true\n", "{require_signed: true}, x",
        "require_signed: false\n\x04\nwrong: true\n"}) {
    const auto policy = read(text);
    ASSERT_FALSE(policy.has_value()) << text;
    EXPECT_EQ(policy.error().id, "bad-policy") << text;
    EXPECT_EQ(policy.error().outcome, Outcome::refused);
    EXPECT_THAT(policy.error().what, testing::Not(HasSubstr("\n")));
  }
}

TEST_F(PolicyTest, IsRefusedWhenOthersMayWriteIt) {
  for (const unsigned mode : {0664U, 0646U}) {
    const auto policy = read("require_signed: true\n", mode);
    ASSERT_FALSE(policy.has_value()) << mode;
    EXPECT_EQ(policy.error().id, "bad-policy");
    EXPECT_THAT(policy.error().what, HasSubstr("others than its owner may write it"));
  }
  EXPECT_TRUE(read("require_signed: true\n", 0600).has_value());
}

TEST_F(PolicyTest, OfTheStandardPlaceNeedNotExistButALinkToNowhereIsRefused) {
  EXPECT_TRUE(find_signature_policy({}, folder / "standard.yaml").has_value());
  std::filesystem::create_symlink(folder / "not-there", folder / "standard.yaml");
  const auto policy = find_signature_policy({}, folder / "standard.yaml");
  ASSERT_FALSE(policy.has_value());
  EXPECT_EQ(policy.error().id, "bad-policy");
}

TEST_F(PolicyTest, ThatWasNamedMustExist) {
  const auto policy = find_signature_policy(folder / "not-there.yaml");
  ASSERT_FALSE(policy.has_value());
  EXPECT_EQ(policy.error().id, "bad-policy");
}

}  // namespace
}  // namespace vpatch

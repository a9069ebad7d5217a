// SPDX-License-Identifier: Apache-2.0
// Whether a signature is one of the given keys, over these very bytes.
#include "vmm-agent/patch/signature_check.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"
#include "tests/unit/inspect/signer.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using enum SignatureState;

class SignatureTest : public testing::Test {
 public:
  ~SignatureTest() override { std::filesystem::remove_all(folder); }

 protected:
  SignatureTest() {
    std::string pattern = testing::TempDir() + "vpatch-keys-XXXXXX";
    folder = ::mkdtemp(pattern.data());
  }

  std::filesystem::path write(const std::string& name, const Bytes& bytes) const {
    std::ofstream out(folder / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    return folder / name;
  }

  Certificates trust(const Signer& signer) const {
    Certificates trusted;
    EXPECT_TRUE(trusted.add(write("trusted.pem", to_bytes(signer.pem()))).has_value());
    return trusted;
  }
  SignatureCheck check(const Bytes& file) const { return check_signature(file, trust(release)); }

  std::filesystem::path folder;
  const Bytes elf = make_livepatch().build();
  const Signer release{"Release key", 10};
  const Signer other{"Another key", 11};
};

TEST_F(SignatureTest, IsGoodInEveryFormThatTheKernelsToolMakes) {
  for (const SignOptions& options :
       {SignOptions{}, SignOptions{.by_key_id = true}, SignOptions{.digest = "SHA512"},
        SignOptions{.digest = "SHA512", .by_key_id = true}}) {
    const SignatureCheck result = check(release.sign(elf, options));
    EXPECT_EQ(result.state, good) << result.detail;
  }
}

TEST_F(SignatureTest, NamesTheSigner) {
  EXPECT_EQ(check(release.sign(elf)).signer, "CN = Release key, serial 0A");
  EXPECT_THAT(check(release.sign(elf, {.by_key_id = true})).signer, HasSubstr("key "));
}

TEST_F(SignatureTest, CutsALongSerialNumberShort) {
  const std::string signer = check(Signer("Release key", 1, 80'000).sign(elf)).signer;
  EXPECT_EQ(signer, "CN = Release key, serial 01" + std::string(126, '0') + "...");
}

TEST_F(SignatureTest, IsMissing) {
  const SignatureCheck result = check(elf);
  EXPECT_EQ(result.state, missing);
  EXPECT_EQ(result.detail, "the module is not signed");
}

TEST_F(SignatureTest, IsUncheckedWithoutCertificates) {
  const SignatureCheck result = check_signature(release.sign(elf), Certificates());
  EXPECT_EQ(result.state, unchecked);
  EXPECT_THAT(result.detail, HasSubstr("CN = Release key"));
}

TEST_F(SignatureTest, IsOfTheWrongKey) {
  const SignatureCheck result = check(other.sign(elf));
  EXPECT_EQ(result.state, wrong_key);
  EXPECT_THAT(result.detail, HasSubstr("signed by CN = Another key, serial 0B"));
}

TEST_F(SignatureTest, OfAnotherKeyThatGoesByTheSameNameIsNotTaken) {
  EXPECT_EQ(check(Signer("Release key", 10).sign(elf)).state, tampered);
}

TEST_F(SignatureTest, IsNotOverContentThatWasChanged) {
  for (const std::size_t at : {std::size_t{100}, elf.size() / 2, elf.size() - 1}) {
    Bytes file = release.sign(elf);
    file[at] ^= std::byte{1};
    EXPECT_EQ(check(file).state, tampered) << at;
  }
}

TEST_F(SignatureTest, OfAnotherModuleIsNotTaken) {
  LivepatchSpec spec;
  spec.set("version", "2");
  const Bytes another = make_livepatch(spec).build();
  EXPECT_EQ(check(with_message(elf, release.message(another))).state, tampered);
}

TEST_F(SignatureTest, OverOtherContentIsNotGoodWhateverByteOfItIsChanged) {
  Bytes changed = elf;
  changed[100] ^= std::byte{1};
  const Certificates trusted = trust(release);
  const Bytes message = release.message(elf);
  for (std::size_t at = 0; at < message.size(); ++at) {
    Bytes other_message = message;
    other_message[at] ^= std::byte{0x55};
    EXPECT_NE(check_signature(with_message(changed, other_message), trusted).state, good) << at;
  }
}

TEST_F(SignatureTest, IsMalformed) {
  const Bytes message = release.message(elf);
  Bytes longer = message;
  longer.push_back(std::byte{0});
  const std::pair<Bytes, const char*> cases[] = {
      {with_message(elf, Bytes(300, std::byte{0x30})), "is no PKCS#7 message"},
      {with_message(elf, to_bytes("hello")), "is no PKCS#7 message"},
      {with_message(elf, Bytes(message.begin(), message.end() - 1)), "is no PKCS#7 message"},
      {with_message(elf, longer), "has bytes after its end"},
      {with_message(elf, release.message(elf, {.keep_content = true})), "holds content of its own"},
      {with_message(elf, release.message(elf, {.twice = true})), "has not one signer"},
      {with_message(elf, release.message(elf, {.digest = "SHA1"})), "uses a digest that is broken"},
      {with_message(elf, release.message(elf, {.attributes = true})), "has signed attributes"},
      {with_message(elf, release.message(elf, {.other_type = true})), "is not of plain data"},
      {with_message(elf, Bytes{}), "it is empty"}};
  for (const auto& [file, why] : cases) {
    const SignatureCheck result = check(file);
    EXPECT_EQ(result.state, malformed) << why;
    EXPECT_THAT(result.detail, HasSubstr(why));
  }
}

TEST_F(SignatureTest, FollowedByGarbageIsNamedByAnIdOfItsOwn) {
  Bytes file = release.sign(elf);
  file.resize(file.size() + 3);
  const auto parsed = parse_livepatch(file, "demo.ko");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().id, "signature-trailing-garbage");
  EXPECT_EQ(parsed.error().outcome, Outcome::refused);
}

TEST_F(SignatureTest, PrecededByGarbageIsNamedByTheSameId) {
  Bytes garbage = elf;
  garbage.resize(garbage.size() + 3);
  const auto parsed = parse_livepatch(release.sign(garbage), "demo.ko");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().id, "signature-trailing-garbage");
}

TEST_F(SignatureTest, GarbageWithoutASignatureHasAnotherId) {
  Bytes garbage = elf;
  garbage.resize(garbage.size() + 3);
  const auto parsed = parse_livepatch(garbage, "demo.ko");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().id, "trailing-garbage");
}

TEST_F(SignatureTest, WithAWrongDescriptionIsNamedMalformed) {
  Bytes file = release.sign(elf);
  file[file.size() - 28 - 12 + 2] = std::byte{1};
  const auto parsed = parse_livepatch(file, "demo.ko");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().id, "signature-malformed");
}

TEST_F(SignatureTest, CertificatesComeAsPemDerBundleOrFolder) {
  const Bytes file = release.sign(elf);
  const auto state_with = [&](const std::filesystem::path& path) {
    Certificates trusted;
    const auto added = trusted.add(path);
    EXPECT_TRUE(added.has_value()) << path;
    return check_signature(file, trusted).state;
  };
  EXPECT_EQ(state_with(write("one.der", release.der())), good);
  EXPECT_EQ(state_with(write("bundle.pem", to_bytes(other.pem() + release.pem()))), good);
  EXPECT_EQ(state_with(folder), good);
  EXPECT_EQ(state_with(write("other.pem", to_bytes(other.pem()))), wrong_key);
}

TEST_F(SignatureTest, RefusesWhatIsNoCertificate) {
  std::string damaged = release.pem();
  damaged[damaged.size() / 2] = '!';
  std::filesystem::create_directory(folder / "empty");
  for (const auto& path :
       {write("text.pem", to_bytes("hello")), write("empty.pem", {}),
        write("damaged.pem", to_bytes(damaged)), write("half.pem", to_bytes(other.pem() + damaged)),
        folder / "not-there", folder / "empty"}) {
    Certificates trusted;
    const auto added = trusted.add(path);
    ASSERT_FALSE(added.has_value()) << path;
    EXPECT_EQ(added.error().id, "bad-certificate");
    EXPECT_EQ(added.error().outcome, Outcome::refused);
    EXPECT_FALSE(added.error().hint.empty());
  }
}

}  // namespace
}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
// The signature that scripts/sign-file appends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr std::size_t kMarker = 28;
constexpr std::size_t kTrailer = 12;

/// A signed module with one byte of struct module_signature changed.
Bytes with_trailer_byte(std::size_t offset, std::uint8_t value) {
  auto file = append_signature(make_livepatch().build(), 300);
  put(file, file.size() - kMarker - kTrailer + offset, value);
  return file;
}

TEST(Signature, IsAbsentFromPlainModule) {
  EXPECT_FALSE(accept(make_livepatch().build()).is_signed);
}

TEST(Signature, IsSeenAtEndOfModule) {
  const auto file = accept(append_signature(make_livepatch().build(), 300));
  EXPECT_TRUE(file.is_signed);
  EXPECT_EQ(file.contents, LivepatchSpec{}.contents);
}

TEST(Signature, RefusesLengthBeyondTheFile) {
  EXPECT_THAT(refusal(with_trailer_byte(8, 0x7F)),
              HasSubstr("malformed module signature: it claims"));
}

TEST(Signature, RefusesLengthThatReachesIntoTheModule) {
  EXPECT_THAT(refusal(with_trailer_byte(10, 0x02)),
              EndsWith("truncated: the section table runs past the end of the file"));
}

TEST(Signature, RefusesBytesBetweenModuleAndSignature) {
  auto file = make_livepatch().build();
  file.resize(file.size() + 5);
  EXPECT_THAT(refusal(append_signature(file, 300)),
              EndsWith("5 trailing bytes after the end of the module, before its signature"));
}

TEST(Signature, RefusesSecondSignature) {
  EXPECT_THAT(refusal(append_signature(append_signature(make_livepatch().build(), 300), 300)),
              HasSubstr("340 trailing bytes"));
}

TEST(Signature, RefusesEmptySignature) {
  EXPECT_THAT(refusal(append_signature(make_livepatch().build(), 0)),
              EndsWith("malformed module signature: it is empty"));
}

TEST(Signature, RefusesOtherTypeThanPkcs7) {
  EXPECT_THAT(refusal(with_trailer_byte(2, 1)), EndsWith("type 1 is not PKCS#7"));
}

class ReservedByte : public testing::TestWithParam<std::size_t> {};

TEST_P(ReservedByte, IsRefusedWhenNotZero) {
  EXPECT_THAT(refusal(with_trailer_byte(GetParam(), 1)),
              EndsWith("fields that must be zero are not"));
}

INSTANTIATE_TEST_SUITE_P(Signature, ReservedByte, testing::Values(0, 1, 3, 4, 5, 6, 7));

TEST(Signature, RefusesSignatureCutAtAnyByte) {
  const auto elf = make_livepatch().build();
  const auto whole = append_signature(elf, 40);
  for (std::size_t size = elf.size() + 1; size < whole.size(); ++size) {
    const auto parsed = parse_livepatch(
        Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)), "demo.ko");
    ASSERT_FALSE(parsed) << size;
    EXPECT_THAT(parsed.error().what, HasSubstr("trailing bytes")) << size;
  }
}

TEST(Signature, RefusesMarkerWithoutAnythingElse) {
  auto file = make_livepatch().build();
  file.resize(64);
  const auto marker = to_bytes("~Module signature appended~\n");
  std::ranges::copy(marker, file.end() - kMarker);
  EXPECT_THAT(refusal(file), HasSubstr("malformed module signature"));
}

}  // namespace
}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#include "qmp/base64.h"

#include <span>
#include <string>

#include <gtest/gtest.h>

namespace vpatch::qmp {
namespace {

std::string encode(std::string_view text) {
  return base64_encode(std::as_bytes(std::span(text)));
}

TEST(Base64Test, EncodesTheVectorsOfRfc4648) {
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foo"), "Zm9v");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Base64Test, DecodesWhatItEncodes) {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(base64_decode(encode(bytes)), bytes);
    EXPECT_EQ(encode(bytes).size(), base64_length(bytes.size()));
    bytes += static_cast<char>(i * 7);
  }
}

class Base64StrictTest : public testing::TestWithParam<const char*> {};

TEST_P(Base64StrictTest, RefusesWhatIsNotCanonical) {
  EXPECT_EQ(base64_decode(GetParam()), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Texts, Base64StrictTest,
                         testing::Values("Z", "Zg", "Zg=", "Zg==\n", " Zg==", "Zm 9", "=", "====",
                                         "Z===", "Z=g=", "Zg==Zg==", "Zm9v=", "Zm9v====", "Zm9-",
                                         "Zm9_", "Zm\x80v", "Zh==", "Zm9="));

}  // namespace
}  // namespace vpatch::qmp

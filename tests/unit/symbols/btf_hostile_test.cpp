// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "btf_builder.h"
#include "introspect/symbols/btf.h"

namespace vpatch::introspect {
namespace {

using testing::BtfBuilder;

/// With one 32-bit word of the header set.
std::vector<std::byte> with_header(std::size_t word, std::uint32_t value) {
  BtfBuilder types;
  types.structure("s", 8, {});
  auto blob = types.blob();
  std::memcpy(blob.data() + word * 4, &value, sizeof(value));
  return blob;
}

Errc parse_failure(std::vector<std::byte> blob) {
  const auto btf = Btf::parse(std::move(blob));
  EXPECT_FALSE(btf);
  return btf ? Errc::ambiguous : btf.error().code;
}

Errc member_failure(const BtfBuilder& types, std::string_view path) {
  const auto btf = Btf::parse(types.blob());
  EXPECT_TRUE(btf) << btf.error().what;
  const auto member = btf->member("s", path);
  EXPECT_FALSE(member);
  return member ? Errc::ambiguous : member.error().code;
}

TEST(HostileBtf, WithAWrongHeaderIsCorrupt) {
  EXPECT_EQ(parse_failure(with_header(0, 0x0001'9feb)), Errc::corrupt);  // byte order
  EXPECT_EQ(parse_failure(with_header(0, 0x0002'eb9f)), Errc::corrupt);  // version
  EXPECT_EQ(parse_failure(with_header(1, 23)), Errc::corrupt);           // header's size
  EXPECT_EQ(parse_failure(with_header(1, 0xffff'ffff)), Errc::corrupt);
}

TEST(HostileBtf, WithSectionsOutsideOfItIsCorrupt) {
  EXPECT_EQ(parse_failure(with_header(2, 0xffff'fff0)), Errc::corrupt);
  EXPECT_EQ(parse_failure(with_header(3, 0xffff'fff0)), Errc::corrupt);
  EXPECT_EQ(parse_failure(with_header(4, 0xffff'fff0)), Errc::corrupt);
  EXPECT_EQ(parse_failure(with_header(5, 0xffff'fff0)), Errc::corrupt);
}

TEST(HostileBtf, CutOffAnywhereIsCorrupt) {
  BtfBuilder types;
  types.structure("s", 8, {{"m", types.integer("int", 4), 0}});
  const auto blob = types.blob();
  for (std::size_t size = 0; size < blob.size(); ++size) {
    EXPECT_EQ(parse_failure({blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size)}),
              Errc::corrupt);
  }
}

TEST(HostileBtf, WithAnUnknownKindIsCorrupt) {
  for (const std::uint32_t kind : {0U, 20U, 31U}) {
    BtfBuilder types;
    types.record(kind, 0, false, 0, 0);
    EXPECT_EQ(parse_failure(types.blob()), Errc::corrupt);
  }
}

TEST(HostileBtf, TypedefOfItselfIsCorrupt) {
  BtfBuilder types;
  const auto own = types.next_type();
  types.refer(BtfKind::type_definition, "s", own);
  EXPECT_EQ(member_failure(types, "m"), Errc::corrupt);
}

TEST(HostileBtf, ArrayOfAstronomicalSizeIsCorrupt) {
  BtfBuilder types;
  auto array = types.integer("long", 8);
  for (int dimension = 0; dimension < 8; ++dimension) {
    array = types.array(array, 0xffff'ffff);
  }
  types.structure("s", 8, {{"m", array, 0}});
  EXPECT_EQ(member_failure(types, "m"), Errc::corrupt);
}

TEST(HostileBtf, StructureAnonymouslyInItselfIsCorrupt) {
  BtfBuilder types;
  const auto own = types.next_type();
  types.structure("s", 8, {{"", own, 0}});
  EXPECT_EQ(member_failure(types, "m"), Errc::corrupt);
}

TEST(HostileBtf, AnonymousMembersThatMultiplyAreCorrupt) {
  // 31 levels of a thousand members each: to look at all would never end.
  BtfBuilder types;
  auto inner = types.integer("int", 4);
  for (int level = 0; level < 30; ++level) {
    inner = types.structure("", 4, std::vector<BtfBuilder::Field>(1000, {"", inner, 0}));
  }
  types.structure("s", 8, {{"", inner, 0}});
  EXPECT_EQ(member_failure(types, "m"), Errc::corrupt);
}

TEST(HostileBtf, FlippedBytesNeverLeadOutOfIt) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto inner = types.bit_fields("", 8, {{"bits", number, 3, 2}, {"x", number, 32}});
  const auto alias = types.refer(BtfKind::type_definition, "t", types.array(inner, 3));
  types.structure("s", 64, {{"", inner, 0}, {"m", alias, 64}, {"p", types.pointer(alias), 256}});
  types.enumeration64("e", {{"E", 1}});
  types.enumeration("f", {{"F", 1}});
  const auto good = types.blob();
  std::mt19937 random(1);
  std::size_t parsed = 0;
  for (int round = 0; round < 20'000; ++round) {
    auto blob = good;
    for (int flips = 0; flips < 3; ++flips) {
      blob[random() % blob.size()] = static_cast<std::byte>(random());
    }
    const auto btf = Btf::parse(std::move(blob));
    if (btf) {
      ++parsed;
      (void)btf->member("s", "m[2].x");
      (void)btf->member("s", "bits");
      (void)btf->member("t", "x");
      (void)btf->enumerator("E");
      (void)btf->enumerator("F");
      (void)btf->size_of("s");
    }
  }
  EXPECT_GT(parsed, 1000U);  // the sanitizers are the judges of the rest
}

}  // namespace
}  // namespace vpatch::introspect

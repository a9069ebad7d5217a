// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/btf.h"

#include <gtest/gtest.h>

#include "btf_builder.h"

namespace vpatch::introspect {
namespace {

using testing::BtfBuilder;

Btf parsed(const BtfBuilder& builder, const Btf* base = nullptr) {
  auto btf = Btf::parse(builder.blob(), base);
  EXPECT_TRUE(btf) << btf.error().what;
  if (!btf) {
    std::abort();
  }
  return *std::move(btf);
}

Member member(const Btf& btf, std::string_view type, std::string_view path) {
  const auto found = btf.member(type, path);
  EXPECT_TRUE(found) << found.error().what;
  return found.value_or(Member{.bit_offset = 12345});
}

Errc failure(const Btf& btf, std::string_view type, std::string_view path) {
  const auto found = btf.member(type, path);
  EXPECT_FALSE(found) << type << '.' << path;
  return found ? Errc::ambiguous : found.error().code;
}

TEST(BtfMember, HasOffsetAndSizeOfItsType) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  types.structure("task_struct", 16, {{"flags", number, 0}, {"pid", number, 64}});
  EXPECT_EQ(member(parsed(types), "task_struct", "pid"), (Member{64, 32, 1}));
}

TEST(BtfMember, IsFoundInAnonymousMembersAtAnyDepth) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto inner = types.structure("", 8, {{"a", number, 0}, {"mapcount", number, 32}});
  const auto both = types.structure("", 8, {{"b", number, 0}, {"", inner, 0}}, BtfKind::union_type);
  types.structure("page", 16, {{"flags", number, 0}, {"", both, 64}, {"after", number, 128}});
  EXPECT_EQ(member(parsed(types), "page", "mapcount"), (Member{96, 32, 1}));
}

TEST(BtfMember, OfANamedMemberIsNotOneOfTheWhole) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto inner = types.structure("", 4, {{"a", number, 0}});
  types.structure("page", 4, {{"inner", inner, 0}});
  EXPECT_EQ(failure(parsed(types), "page", "a"), Errc::not_found);
}

TEST(BtfMember, IsReachedByAPathOfNamesAndIndexes) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto part = types.structure("part", 8, {{"base", number, 0}, {"size", number, 32}});
  const auto parts = types.array(part, 7);
  types.structure("module", 64, {{"state", number, 0}, {"mem", parts, 64}});
  EXPECT_EQ(member(parsed(types), "module", "mem[2].size"), (Member{64 + 2 * 64 + 32, 32, 1}));
}

TEST(BtfMember, OfArrayTypeHasAllElementsOfAllDimensions) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto row = types.array(number, 3);
  const auto name = types.refer(BtfKind::type_definition, "row_t", row);
  types.structure("table", 24, {{"rows", types.array(name, 2), 0}});
  EXPECT_EQ(member(parsed(types), "table", "rows"), (Member{0, 6 * 32, 6}));
}

TEST(BtfMember, OfFlexibleArrayTypeHasNoElements) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  types.structure("tail", 4, {{"count", number, 0}, {"data", types.array(number, 0), 32}});
  EXPECT_EQ(member(parsed(types), "tail", "data"), (Member{32, 0, 0}));
}

TEST(BtfMember, BeyondTheEndOfAnArrayIsNotFound) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  types.structure("task_struct", 16, {{"comm", types.array(number, 4), 0}});
  EXPECT_EQ(failure(parsed(types), "task_struct", "comm[4]"), Errc::not_found);
}

TEST(BtfMember, OfBitFieldHasItsBits) {
  BtfBuilder types;
  const auto number = types.integer("unsigned int", 4);
  types.bit_fields("orc_entry", 6, {{"sp_reg", number, 32, 4}, {"type", number, 40, 3}});
  EXPECT_EQ(member(parsed(types), "orc_entry", "type"), (Member{40, 3, 1}));
}

TEST(BtfMember, OfOldBitFieldHasTheBitsOfItsIntegerType) {
  BtfBuilder types;
  const auto bits = types.integer("unsigned int", 4, 3, 5);
  types.structure("flags", 4, {{"kind", bits, 8}});
  EXPECT_EQ(member(parsed(types), "flags", "kind"), (Member{13, 3, 1}));
}

TEST(BtfMember, SizeIsThatBehindQualifiersAndTags) {
  BtfBuilder types;
  const auto number = types.integer("long", 8);
  auto type = types.refer(BtfKind::type_definition, "u64", number);
  for (const BtfKind kind :
       {BtfKind::const_type, BtfKind::volatile_type, BtfKind::restrict_type, BtfKind::type_tag}) {
    type = types.refer(kind, kind == BtfKind::type_tag ? "rcu" : "", type);
  }
  types.structure("s", 8, {{"m", type, 0}});
  EXPECT_EQ(member(parsed(types), "s", "m"), (Member{0, 64, 1}));
}

TEST(BtfMember, IsNotFoundByAMalformedPath) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  types.structure("s", 16, {{"m", types.array(number, 4), 0}});
  const auto btf = parsed(types);
  for (const std::string_view path : {"", ".", "m.", "m[", "m[]", "m[1", "m[x]", "m[-1]", "m[1]]",
                                      "[0]", "m[99999999999999999999]"}) {
    EXPECT_EQ(failure(btf, "s", path), Errc::not_found);
  }
}

TEST(BtfType, OfAnonymousStructureIsFoundByItsTypedef) {
  BtfBuilder types;
  const auto number = types.integer("int", 4);
  const auto inner = types.structure("", 4, {{"counter", number, 0}});
  types.refer(BtfKind::type_definition, "atomic_t", inner);
  EXPECT_EQ(member(parsed(types), "atomic_t", "counter"), (Member{0, 32, 1}));
}

TEST(BtfType, OfStructureGoesBeforeATypedefOfThatName) {
  BtfBuilder types;
  types.refer(BtfKind::type_definition, "thing", types.integer("char", 1));
  types.structure("thing", 24, {});
  EXPECT_EQ(parsed(types).size_of("thing"), 24U);
}

TEST(BtfType, ThatIsOnlyDeclaredIsNotFound) {
  BtfBuilder types;
  types.refer(BtfKind::type_definition, "hidden_t", types.refer(BtfKind::forward, "hidden", 0));
  const auto btf = parsed(types);
  EXPECT_EQ(btf.size_of("hidden").error().code, Errc::not_found);
  EXPECT_EQ(btf.size_of("hidden_t").error().code, Errc::not_found);
}

TEST(BtfEnumerator, HasItsValueSignExtended) {
  BtfBuilder types;
  types.enumeration("small", {{"ZERO", 0}, {"MINUS", -5}});
  types.enumeration64("large", {{"HUGE", 1LL << 40}, {"FAR_BELOW", -(1LL << 40)}});
  const auto btf = parsed(types);
  EXPECT_EQ(btf.enumerator("MINUS"), -5);
  EXPECT_EQ(btf.enumerator("HUGE"), 1LL << 40);
  EXPECT_EQ(btf.enumerator("FAR_BELOW"), -(1LL << 40));
}

TEST(BtfOfModule, KnowsItsOwnTypesMadeOfTheKernels) {
  BtfBuilder kernel_types;
  const auto number = kernel_types.integer("int", 4);
  const auto list = kernel_types.structure("list", 16, {{"prev", number, 64}});
  const auto kernel = parsed(kernel_types);
  BtfBuilder types(kernel_types.next_type(), kernel_types.next_string());
  types.structure("port", 32, {{"id", number, 0}, {"list", list, 64}});
  types.enumeration("state", {{"PORT_OPEN", 3}});
  const auto module = parsed(types, &kernel);
  EXPECT_EQ(member(module, "port", "list.prev"), (Member{128, 32, 1}));
  EXPECT_EQ(module.enumerator("PORT_OPEN"), 3);
  EXPECT_EQ(module.type_count(), 4U);
}

TEST(BtfOfModule, KnowsTheKernelsTypes) {
  BtfBuilder kernel_types;
  kernel_types.structure("list", 16, {});
  kernel_types.enumeration("state", {{"RUNNING", 7}});
  const auto kernel = parsed(kernel_types);
  const BtfBuilder types(kernel_types.next_type(), kernel_types.next_string());
  const auto module = parsed(types, &kernel);
  EXPECT_EQ(module.size_of("list"), 16U);
  EXPECT_EQ(module.enumerator("RUNNING"), 7);
}

TEST(BtfOfModule, PrefersItsOwnTypeOfAName) {
  BtfBuilder kernel_types;
  kernel_types.structure("port", 16, {});
  const auto kernel = parsed(kernel_types);
  BtfBuilder types(kernel_types.next_type(), kernel_types.next_string());
  types.structure("port", 48, {});
  EXPECT_EQ(parsed(types, &kernel).size_of("port"), 48U);
}

}  // namespace
}  // namespace vpatch::introspect

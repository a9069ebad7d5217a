// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/cold_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr GuestVirtAddr kF(0xffffffff81001000);
constexpr GuestVirtAddr kCold(0xffffffff81900000);

ForbiddenFunction forbidden(std::string object, std::string name, GuestVirtAddr start) {
  return {std::move(object), std::move(name), *VirtRange::make(start, 0x100)};
}

/// `f` of the kernel, or a replacement of it in the module `lp`, lies at kF.
PlaceOf placed(std::string function, std::string module, std::uint64_t offset = 0) {
  return [=](const Frame& frame) -> std::optional<Place> {
    if (frame.address != kF || !frame.exact) {
      return std::nullopt;
    }
    return Place{function, offset, 0x100, module};
  };
}

SymbolsNamed one_symbol(std::string in, Symbol symbol) {
  return [=](std::string_view object, std::string_view name) -> Result<std::vector<Symbol>> {
    return object == in && name == symbol.name ? std::vector<Symbol>{symbol}
                                               : std::vector<Symbol>{};
  };
}

TEST(ColdParts, AreFoundByTheFunctionsName) {
  const auto cold = cold_parts_of(placed("f", ""), one_symbol("vmlinux", {"f.cold", kCold, 8, 't'}),
                                  {forbidden("vmlinux", "f", kF)});
  ASSERT_TRUE(cold) << cold.error().what;
  EXPECT_THAT(cold->functions, ElementsAre(forbidden("vmlinux", "f", kF)));
  EXPECT_THAT(cold->parts,
              ElementsAre(ForbiddenFunction{"vmlinux", "f.cold", *VirtRange::make(kCold, 8)}));
}

TEST(ColdParts, OfAReplacementAreThoseOfItsOwnNameInItsModule) {
  const auto cold = cold_parts_of(placed("livepatch_f", "lp"),
                                  one_symbol("lp", {"livepatch_f.cold", kCold, 8, 't'}),
                                  {forbidden("vmlinux", "f", kF)});
  ASSERT_TRUE(cold) << cold.error().what;
  EXPECT_THAT(cold->parts,
              ElementsAre(ForbiddenFunction{"lp", "livepatch_f.cold", *VirtRange::make(kCold, 8)}));
}

TEST(ColdParts, AreNoneWhereTheCompilerMadeNone) {
  const auto cold = cold_parts_of(placed("f", ""), one_symbol("vmlinux", {"g.cold", kCold, 8, 't'}),
                                  {forbidden("vmlinux", "f", kF)});
  ASSERT_TRUE(cold) << cold.error().what;
  EXPECT_THAT(cold->parts, IsEmpty());
}

TEST(ColdParts, AreUnknownOfCodeWithoutASymbolAtItsStart) {
  const auto symbols = one_symbol("vmlinux", {"f.cold", kCold, 8, 't'});
  const auto inside = cold_parts_of(placed("f", "", 4), symbols, {forbidden("vmlinux", "f", kF)});
  ASSERT_FALSE(inside);
  EXPECT_THAT(inside.error().what, HasSubstr("vmlinux:f"));
  EXPECT_FALSE(
      cold_parts_of(placed("f", ""), symbols, {forbidden("vmlinux", "f", GuestVirtAddr(1))}));
}

TEST(ColdParts, AreUnknownWhereTheirSizeIs) {
  EXPECT_FALSE(cold_parts_of(placed("f", ""), one_symbol("vmlinux", {"f.cold", kCold, 0, 't'}),
                             {forbidden("vmlinux", "f", kF)}));
}

}  // namespace
}  // namespace vpatch::introspect

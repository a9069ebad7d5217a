// SPDX-License-Identifier: Apache-2.0
// Which livepatch is the base, and which were added to it.
#include <gtest/gtest.h>

#include "vmm-agent/operation/status.h"

namespace vpatch {
namespace {

GuestPatch patch(const std::string& name, std::optional<bool> replace, bool transition = false,
                 bool enabled = true) {
  return {.name = name, .enabled = enabled, .transition = transition, .replace = replace};
}

std::string roles(std::vector<GuestPatch> patches) {
  GuestState guest;
  guest.patches = std::move(patches);
  std::string text;
  for (const GuestPatch& one : guest.patches) {
    text += one.name + "=" + std::string(role_of(guest, one)) + " ";
  }
  return text;
}

TEST(PatchRoles, TellTheBaseFromItsAdditions) {
  EXPECT_EQ(roles({patch("v2", true), patch("fix1", false), patch("fix2", false)}),
            "v2=base fix1=addition fix2=addition ");
}

TEST(PatchRoles, KeepTheBaseUntilItsReplacementIsWhollyInForce) {
  EXPECT_EQ(roles({patch("v1", true), patch("v2", true, true)}), "v1=base v2= ");
}

TEST(PatchRoles, HaveNoBaseWithoutACumulativePatch) {
  EXPECT_EQ(roles({patch("fix1", false), patch("fix2", false)}), "fix1= fix2= ");
}

TEST(PatchRoles, HaveNoBaseThatIsOnItsWayOut) {
  EXPECT_EQ(roles({patch("v1", true, true, false), patch("fix1", false)}), "v1= fix1= ");
}

TEST(PatchRoles, AreUnknownWhereTheGuestDoesNotShowThem) {
  EXPECT_EQ(roles({patch("v1", std::nullopt), patch("fix1", std::nullopt)}), "v1= fix1= ");
}

TEST(WaitingObjects, AreThoseOfAPatchInForceWhoseModuleIsNotLoaded) {
  const GuestPatchedObject absent{"ext4", false, {}};
  EXPECT_TRUE(is_waiting(patch("p", false), absent));
  EXPECT_FALSE(is_waiting(patch("p", false, true), absent));
  EXPECT_FALSE(is_waiting(patch("p", false), {"vmlinux", true, {}}));
  EXPECT_FALSE(is_waiting(patch("p", false), {"vmlinux", std::nullopt, {}}));
}

}  // namespace
}  // namespace vpatch

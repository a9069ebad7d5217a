// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/livepatch_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

LivepatchLog parse(const std::vector<std::string>& lines) {
  return parse_livepatch_log(lines);
}

TEST(LivepatchLog, NamesThePatchWhoseTransitionWasForced) {
  const auto log =
      parse({"livepatch: 'p0': starting patching transition", "livepatch: 'p0': patching complete",
             "livepatch: 'p1': starting patching transition",
             "livepatch: forcing remaining tasks to the patched state",
             "livepatch: 'p1': patching complete"});
  EXPECT_THAT(log.forced, ElementsAre("p1"));
}

TEST(LivepatchLog, TakesLinesWithTheTimeInFront) {
  const auto log =
      parse({"[   12.345678] livepatch: 'p1': starting unpatching transition",
             "[   12.345679] livepatch: forcing remaining tasks to the patched state"});
  EXPECT_THAT(log.forced, ElementsAre("p1"));
}

TEST(LivepatchLog, TellsOfAForceWhosePatchIsNoLongerNamed) {
  EXPECT_THAT(parse({"livepatch: forcing remaining tasks to the patched state"}).forced,
              ElementsAre(""));
}

TEST(LivepatchLog, NamesAModuleThatWasNotLoaded) {
  const auto log = parse({"livepatch: pre-patch callback failed for object 'ext4'",
                          "livepatch: patch 'p1' failed for module 'ext4', refusing to load module "
                          "'ext4'"});
  EXPECT_THAT(log.refused, ElementsAre(RefusedModule{"p1", "ext4"}));
}

TEST(LivepatchLog, NamesEachOnceAndNotWithoutEnd) {
  std::vector<std::string> lines;
  for (int i = 0; i < 1000; ++i) {
    lines.push_back("livepatch: 'p" + std::to_string(i) + "': starting patching transition");
    lines.emplace_back("livepatch: forcing remaining tasks to the patched state");
    lines.emplace_back("livepatch: forcing remaining tasks to the patched state");
  }
  EXPECT_THAT(parse(lines).forced, SizeIs(256));
}

TEST(LivepatchLog, IsNotFooledByOtherLines) {
  const auto log = parse({"", "livepatch: ", "livepatch: '", "livepatch: patch 'p1' failed for",
                          "livepatch: enabling patch 'p1'", "random: crng init done"});
  EXPECT_THAT(log.forced, IsEmpty());
  EXPECT_THAT(log.refused, IsEmpty());
}

GuestState guest_with(GuestModule module) {
  GuestState guest;
  guest.modules.push_back(std::move(module));
  return guest;
}

TEST(ForcedPatches, AreThoseThatTheKernelHasMarked) {
  GuestState guest;
  guest.patches.push_back({.name = "p1", .forced = true});
  EXPECT_THAT(forced_patches(guest, {}), ElementsAre(ForcedPatch{"p1", ForcedSign::marked}));
}

TEST(ForcedPatches, AreThoseWhoseModuleIsKeptThoughTheyAreGone) {
  EXPECT_THAT(forced_patches(guest_with({"p1", 1, "OEK"}), {}),
              ElementsAre(ForcedPatch{"p1", ForcedSign::kept_module}));
}

TEST(ForcedPatches, AreNotModulesThatAreFreeLoadingOrNoLivepatches) {
  EXPECT_THAT(forced_patches(guest_with({"p1", 0, "OEK"}), {}), IsEmpty());
  EXPECT_THAT(forced_patches(guest_with({"p1", 1, "OEK", false}), {}), IsEmpty());
  EXPECT_THAT(forced_patches(guest_with({"ext4", 1, ""}), {}), IsEmpty());
}

TEST(ForcedPatches, AreNotThoseInForce) {
  GuestState guest = guest_with({"p1", 1, "OEK"});
  guest.patches.push_back({.name = "p1", .enabled = true});
  EXPECT_THAT(forced_patches(guest, {}), IsEmpty());
}

TEST(ForcedPatches, AreToldOnceWithTheSurestSign) {
  EXPECT_THAT(
      forced_patches(guest_with({"p1", 1, "OEK"}), {.forced = {"p1", "p2"}}),
      ElementsAre(ForcedPatch{"p1", ForcedSign::kept_module}, ForcedPatch{"p2", ForcedSign::log}));
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/roll_forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "tests/unit/inspect/livepatch_builder.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kNewer{.name = "v2", .build_id = "bb22", .replace = true};
const ModuleImage kOlder{.name = "v1", .build_id = "aa11", .replace = true};
const ModuleImage kHotFix{.name = "fix", .build_id = "cc33"};
const ModuleImage kNop{
    .name = "vpatch_nop", .build_id = "dd44", .replace = true, .objects = {{"vmlinux", true, {}}}};

/// The module file of the empty livepatch, or of one that is not.
std::string nop_file(bool empty = true) {
  test::LivepatchSpec spec{.name = "vpatch_nop"};
  spec.set("name", "vpatch_nop");
  spec.set("vermagic", "6.1.0-test SMP preempt mod_unload ");
  spec.contents.replace = true;
  if (empty) {
    spec.contents.objects.front().functions.clear();
  }
  const auto bytes = test::make_livepatch(spec).build();
  std::string text;
  for (const std::byte byte : bytes) {
    text += static_cast<char>(byte);
  }
  return text;
}

class RollForward : public testing::Test {
 protected:
  RollForward() {
    for (const ModuleImage& image : {kNewer, kOlder, kHotFix, kNop}) {
      bench.guest.images[image.name] = image;
    }
  }
  std::vector<std::string> in_force() const {
    std::vector<std::string> names;
    for (const GuestPatch& patch : bench.kernel.patches) {
      names.push_back(patch.name);
    }
    return names;
  }

  OperationBench bench;
};

TEST_F(RollForward, GoesBackToAnOlderCumulativePatch) {
  bench.kernel.put(kNewer);
  bench.kernel.put(kHotFix);
  const Report report = revert_to(bench.context, file_of(kOlder), {});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(in_force(), ElementsAre("v1"));
  EXPECT_THAT(report.unloaded, ElementsAre("v2", "fix"));
}

TEST_F(RollForward, RefusesAPatchThatTakesNothingBack) {
  bench.kernel.put(kNewer);
  const Report report = revert_to(bench.context, file_of(kHotFix), {});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("not known to be a cumulative"));
  EXPECT_THAT(bench.guest.calls, IsEmpty());
}

TEST_F(RollForward, RefusesAPatchOfWhichThatIsUnknown) {
  LivepatchFile file = file_of(kOlder);
  file.contents.reset();
  EXPECT_EQ(revert_to(bench.context, file, {}).outcome, Outcome::refused);
}

TEST_F(RollForward, NamesTheAdditionsThatWouldStay) {
  bench.kernel.put(kOlder);
  bench.kernel.put(kHotFix);
  const Report report = revert_to(bench.context, file_of(kOlder), {});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("added to it: fix"));
  EXPECT_THAT(in_force(), ElementsAre("v1", "fix"));
}

TEST_F(RollForward, HasNothingToDoWhenThePatchAloneIsInForce) {
  bench.kernel.put(kOlder);
  EXPECT_EQ(revert_to(bench.context, file_of(kOlder), {}).outcome, Outcome::done);
  EXPECT_FALSE(called(bench.guest, "load v1"));
}

TEST_F(RollForward, ReplacesAllByTheEmptyPatchThatTheGuestHas) {
  bench.kernel.put(kNewer);
  bench.guest.installed["vpatch_nop"] = nop_file();
  const Report report = replace_with_nop(bench.context, {}, {});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(in_force(), ElementsAre("vpatch_nop"));
}

TEST_F(RollForward, SaysWhatToDoWithoutAnEmptyPatchInTheGuest) {
  bench.kernel.put(kNewer);
  const Report report = replace_with_nop(bench.context, {}, {});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.hint, HasSubstr("--nop FILE"));
  EXPECT_THAT(bench.guest.calls, ElementsAre("installed_module vpatch_nop"));
}

TEST_F(RollForward, ReplacesAllByTheEmptyPatchThatIsGiven) {
  bench.kernel.put(kNewer);
  EXPECT_EQ(replace_with_nop(bench.context, file_of(kNop), {}).outcome, Outcome::done);
  EXPECT_THAT(in_force(), ElementsAre("vpatch_nop"));
}

TEST_F(RollForward, RefusesAnEmptyPatchThatIsNotEmpty) {
  bench.guest.installed["vpatch_nop"] = nop_file(false);
  EXPECT_EQ(replace_with_nop(bench.context, {}, {}).outcome, Outcome::refused);
  EXPECT_EQ(replace_with_nop(bench.context, file_of(kNewer), {}).outcome, Outcome::refused);
  EXPECT_FALSE(called(bench.guest, "load v2"));
}

TEST_F(RollForward, RefusesAFileOfTheGuestThatIsNoModule) {
  bench.guest.installed["vpatch_nop"] = "no ELF at all";
  EXPECT_EQ(replace_with_nop(bench.context, {}, {}).outcome, Outcome::refused);
}

TEST_F(RollForward, IsUnreachableWhenTheAgentIs) {
  bench.guest.fail({.op = Op::installed_module});
  EXPECT_EQ(replace_with_nop(bench.context, {}, {}).outcome, Outcome::unreachable);
}

}  // namespace
}  // namespace vpatch

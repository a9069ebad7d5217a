// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "tests/vm/assist_fixture.h"

namespace vpatch::test {

/// One field of a report, as JSON.
std::string list(const boost::json::object& report, const std::string& field);

/// The guest that all tests of livepatches' semantics share. Afterwards each of them leaves it
/// without livepatches, with vpatch_target loaded and without the other modules to patch.
class LivepatchTest : public AssistTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// vpatch apply --json OPTIONS... with one of our modules, by its name.
  static Answer apply_patch(const std::string& patch, std::vector<std::string> options = {});
  static Answer revert_patch(const std::string& patch, std::vector<std::string> options = {});

  /// vpatch history --json ARGUMENTS..., of the journal that all of this program's changes go to.
  static boost::json::object history(const std::vector<std::string>& arguments);

  /// Loads or unloads a module that is no livepatch, in the guest.
  static void insmod(const std::string& module);
  static void rmmod(const std::string& module);
  /// As insmod(), where the kernel is to refuse: its words.
  static std::string refused_insmod(const std::string& module);
  /// A kernel thread that waits in vpatch_target_block() until "release".
  static void block();

  /// Names of the livepatches in the guest's sysfs, each followed by a space.
  static std::string in_force();
  static bool is_loaded(const std::string& module);
  static std::string cmdline();
  /// One patch of `vpatch status --json`; throws when it is not there.
  static boost::json::object patch_status(const std::string& patch);
  /// The transition that status shows, as "patching NAME"; "none" when there is none.
  static std::string transition_status();

  /// Records of the kernel log since the test began whose text contains `text`.
  std::vector<std::string> logged(const std::string& text) const;
  /// What the callbacks have said since the test began, "MODULE: CALLBACK: OBJECT".
  std::vector<std::string> callbacks() const;

  /// Takes all livepatches out of the guest, and lets go whoever is held.
  static void clean_guest();
  /// Boots the guest anew, as a reset does.
  void reboot();

 private:
  std::uint64_t log_mark_ = 0;
};

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/agent/fake_clock.h"
#include "vmm-agent/guest/guest.h"

namespace vpatch {

/// What a module file does to the kernel that loads it.
struct ModuleImage {
  std::string name;
  std::string build_id;
  bool replace = false;
  bool enables = true;  ///< its init function calls klp_enable_patch()
  std::vector<GuestPatchedObject> objects = {{"vmlinux", true, {"cmdline_proc_show,1"}}};
};

struct FakeModule {
  std::string build_id = "ee55";
  std::uint32_t references = 0;
  std::string flags = "OEK";

  bool operator==(const FakeModule&) const = default;
};

/// A guest's kernel as far as livepatches go, after kernel/livepatch/core.c: one transition at a
/// time, which can be reversed; a patch that is out of force leaves sysfs; its module is busy until
/// then; a replace patch drops the others when its transition ends.
class FakeKernel {
 public:
  using milliseconds = std::chrono::milliseconds;

  static constexpr milliseconds kForced{500};

  explicit FakeKernel(FakeClock& clock) : clock_(clock) {}

  std::optional<milliseconds> patching{300};  ///< how long a transition takes; unset: it never ends
  std::optional<milliseconds> unpatching{300};  ///< the same for the other way
  milliseconds reference_linger{0};  ///< how long a module stays busy after its patch has left
  PendingTasks pending;              ///< who holds a transition up

  std::string release = "6.1.0-test";
  std::string boot_id = "5bfd0a2c-0000-4000-8000-000000000001";
  std::uint64_t tainted = 0;
  bool has_livepatch = true;
  std::vector<GuestPatch> patches;
  std::map<std::string, FakeModule> modules;
  std::map<std::string, std::string, std::less<>> guest_module;
  std::vector<std::string> log = {"[    1.000000] Linux version 6.1.0-test"};

  /// The patch of `image` in force, or in transition with `transition`, as if loaded long ago.
  void put(const ModuleImage& image, bool transition = false);

  ToolResult insmod(const ModuleImage& image);
  ToolResult rmmod(const std::string& name);
  ToolResult write_enabled(const std::string& name, bool enabled);
  /// Begins anew, with nothing loaded.
  void reboot();
  /// All tasks count as moved: the transition ends within kForced, and the modules of the patches
  /// that it removes are never let go of.
  ToolResult write_force(const std::string& name);
  /// Ends the transition that runs, if one does.
  void end_transition();
  void print(const std::string& text);

  GuestState state() const;
  const GuestPatch* find(const std::string& name) const;

 private:
  void start_transition(GuestPatch& patch, bool enabled);
  void leave(const std::string& name);

  FakeClock& clock_;
  unsigned transition_ = 0;  ///< counts them: a reversed one does not end at its former time
};

}  // namespace vpatch

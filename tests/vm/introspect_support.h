// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "tests/vm/test_vm.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch::test {

/// The folder where vpatch and this program keep what they learn of a guest's boot; a test's own.
const std::string& cache_folder();

/// One thread as the guest's own /proc showed it.
struct GuestThread {
  std::uint32_t pid = 0;
  char state = '?';
  std::string start;           ///< with the tid, tells it from a later one
  std::uint64_t switches = 0;  ///< unchanged if it has not run in between
  std::string name;
  std::vector<std::string> stack;  ///< "function+0x1/0x2 [module]", innermost first
};
using GuestThreads = std::map<std::uint32_t, GuestThread>;  // by tid

/// Brings the program guest-tasks into the guest.
void deliver_guest_tasks(const TestVm& vm);
/// What it sees of all threads.
GuestThreads dump_threads(const TestVm& vm);

/// The one JSON object that a verb prints. Throws when the verb does not end well.
boost::json::object look(const TestVm& vm, const std::string& verb,
                         const std::vector<std::string>& arguments = {});

std::string text_of(const boost::json::object& object, const std::string& key);
std::uint64_t number_of(const boost::json::object& object, const std::string& key);

/// The texts of a task's frames, as `vpatch stacks --json` has them.
std::vector<std::string> frames_of(const boost::json::object& task);
/// The tasks of such an answer by tid, without the idle tasks.
std::map<std::uint32_t, const boost::json::object*> by_tid(const boost::json::array& tasks);

/// A guest looked at through the library, with the cache that the program uses.
class LibraryView {
 public:
  explicit LibraryView(const TestVm& vm);
  introspect::GuestKernel& kernel() const { return view_->kernel(); }
  GuestView& view() { return *view_; }
  /// Where the cache keeps this VM's boot.
  std::string cache_file() const;

 private:
  std::unique_ptr<Domain> domain_;
  std::unique_ptr<GuestView> view_;
};

/// "running" or "paused" as the monitor says.
std::string run_state(const TestVm& vm);

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/introspect_support.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace vpatch::test {

const std::string& cache_folder() {
  static const std::string folder = [] {
    const std::string name =
        fmt::format("{}vpatch-introspect-cache-{}-{}", testing::TempDir(), backend(), kernel());
    std::filesystem::remove_all(name);
    std::filesystem::create_directory(name);
    setenv("VPATCH_BOOT_CACHE", name.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): no threads run
    return name;
  }();
  return folder;
}

void deliver_guest_tasks(const TestVm& vm) {
  vm.deliver(VPATCH_GUEST_TASKS, "/tmp/guest-tasks");
  vm.guest("chmod 755 /tmp/guest-tasks");
}

GuestThreads dump_threads(const TestVm& vm) {
  constexpr std::string_view kFrame = "[<0>] ";
  GuestThreads threads;
  GuestThread* thread = nullptr;
  std::istringstream dump(vm.guest("/tmp/guest-tasks dump"));
  for (std::string line; std::getline(dump, line);) {
    if (line.starts_with("T ")) {
      std::istringstream words(line.substr(2));
      std::uint32_t tid = 0;
      GuestThread fresh;
      words >> tid >> fresh.pid >> fresh.state >> fresh.start >> fresh.switches;
      words.ignore(1);
      std::getline(words, fresh.name);
      thread = &(threads[tid] = fresh);
    } else if (thread != nullptr && line.starts_with(kFrame)) {
      thread->stack.push_back(line.substr(kFrame.size()));
    } else {
      throw std::runtime_error("guest-tasks printed: " + line);
    }
  }
  return threads;
}

boost::json::object look(const TestVm& vm, const std::string& verb,
                         const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"--json"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const ProcessResult result = vm.vpatch(verb, all);
  if (result.exit_code != 0) {
    std::ostringstream text;
    text << "vpatch " << verb << ": " << result;
    throw std::runtime_error(text.str());
  }
  return boost::json::parse(result.out).as_object();
}

std::string text_of(const boost::json::object& object, const std::string& key) {
  return std::string(object.at(key).as_string());
}

std::uint64_t number_of(const boost::json::object& object, const std::string& key) {
  return object.at(key).to_number<std::uint64_t>();
}

std::vector<std::string> frames_of(const boost::json::object& task) {
  std::vector<std::string> frames;
  for (const auto& frame : task.at("frames").as_array()) {
    frames.push_back(text_of(frame.as_object(), "text"));
  }
  return frames;
}

std::map<std::uint32_t, const boost::json::object*> by_tid(const boost::json::array& tasks) {
  std::map<std::uint32_t, const boost::json::object*> found;
  for (const auto& entry : tasks) {
    const auto& task = entry.as_object();
    if (task.at("idle_of").is_null()) {
      found[static_cast<std::uint32_t>(number_of(task, "tid"))] = &task;
    }
  }
  return found;
}

LibraryView::LibraryView(const TestVm& vm) {
  const qmp::CallOptions options{};
  auto domain = open_domain(vm.target(), options);
  if (!domain) {
    throw std::runtime_error(domain.error().what);
  }
  domain_ = *std::move(domain);
  auto view = GuestView::open(*domain_, BootCache(cache_folder()), options);
  if (!view) {
    throw std::runtime_error(view.error().what);
  }
  view_ = std::make_unique<GuestView>(*std::move(view));
}

std::string LibraryView::cache_file() const {
  return cache_folder() + "/boot/" + domain_->identity() + ".json";
}

std::string run_state(const TestVm& vm) {
  return std::string(vm.monitor("query-status").as_object().at("status").as_string());
}

}  // namespace vpatch::test

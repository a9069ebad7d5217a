// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/test_vm.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <thread>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "qmp/guest_agent.h"

namespace vpatch::test {
namespace {

std::string environment(const char* name) {
  const char* value =
      std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read before any thread runs
  if (value == nullptr) {
    throw std::runtime_error(fmt::format("{} is not set; run the tests with ctest", name));
  }
  return value;
}

constexpr const char* kStarter = VPATCH_SOURCE_DIR "/images/vm";

}  // namespace

std::string backend() {
  return environment("VPATCH_VM_BACKEND");
}
std::string kernel() {
  return environment("VPATCH_VM_KERNEL");
}

std::string module_path(const std::string& name, const std::string& other_kernel) {
  const char* images = std::getenv("VPATCH_IMAGES");  // NOLINT(concurrency-mt-unsafe)
  return fmt::format("{}/{}/modules/{}.ko",
                     images != nullptr ? images : VPATCH_SOURCE_DIR "/build/images",
                     other_kernel.empty() ? kernel() : other_kernel, name);
}

std::string padded_module(const std::string& name, std::size_t bytes) {
  const std::string directory = testing::TempDir();
  const std::string padding = fmt::format("{}vpatch-padding-{}", directory, backend());
  const std::string padded =
      fmt::format("{}vpatch-padded-{}-{}.ko", directory, backend(), kernel());
  write_file(padding, std::string(bytes, 'p'));
  const ProcessResult result =
      run({"objcopy", "--add-section", ".vpatch.padding=" + padding, module_path(name), padded});
  std::filesystem::remove(padding);
  if (result.exit_code != 0) {
    throw std::runtime_error(result.err);
  }
  return padded;
}

std::vector<std::string> start_command(const std::string& name, const std::string& on_backend,
                                       const std::string& with_kernel,
                                       const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {kStarter,   "start",     "--backend", on_backend,
                                   "--kernel", with_kernel, "--name",    name};
  argv.insert(argv.end(), flags.begin(), flags.end());
  return argv;
}

TestVm::TestVm(const std::string& name, const std::vector<std::string>& extra_flags) {
  run({kStarter, "stop", "--backend", backend(), "--name",
       name});  // a left-over of a killed test run
  const ProcessResult result = run(start_command(name, backend(), kernel(), extra_flags));
  if (result.exit_code != 0) {
    throw std::runtime_error(
        fmt::format("the VM {} did not start: {}{}", name, result.out, result.err));
  }
  adopt(result, Target{}.uri);
}

TestVm::TestVm(const ProcessResult& started, const std::string& uri) {
  adopt(started, uri);
}

void TestVm::adopt(const ProcessResult& result, const std::string& uri) {
  const auto started = boost::json::parse(result.out).as_object();
  name_ = std::string(started.at("name").as_string());
  backend_ = std::string(started.at("backend").as_string());
  if (const auto* pid = started.at("pid").if_int64()) {
    pid_ = static_cast<pid_t>(*pid);
  }
  if (backend_ == "libvirt") {
    target_.uri = uri;
    target_.domain = name_;
    return;
  }
  target_.qmp = std::string(started.at("qmp").as_string());
  if (started.at("qga").is_string()) {
    target_.qga = std::string(started.at("qga").as_string());
  }
}

TestVm::~TestVm() {
  run({kStarter, "stop", "--backend", backend_, "--name", name_});
}

std::vector<std::string> TestVm::target_flags() const {
  if (target_.is_libvirt()) {
    return {"--domain", target_.domain};
  }
  return {"--qmp", target_.qmp, "--qga", target_.qga};
}

void TestVm::with_agent(
    const std::function<void(qmp::GuestAgent&, const qmp::CallOptions&)>& use) const {
  const qmp::CallOptions options{std::chrono::seconds(60), {}};
  auto domain = open_domain(target_, options);
  if (!domain) {
    throw std::runtime_error(domain.error().what);
  }
  auto channel = (*domain)->agent(options);
  if (!channel) {
    throw std::runtime_error(channel.error().what);
  }
  qmp::GuestAgent agent(**channel);
  use(agent, options);
}

boost::json::value TestVm::monitor(const std::string& command,
                                   const boost::json::object& arguments) const {
  const qmp::CallOptions options{std::chrono::seconds(20), {}};
  auto domain = open_domain(target_, options);
  auto channel = domain ? (*domain)->monitor() : std::unexpected(domain.error());
  if (!channel) {
    throw std::runtime_error(channel.error().what);
  }
  auto reply = (*channel)->execute(command, arguments, options);
  if (!reply) {
    throw std::runtime_error(reply.error().what);
  }
  return *std::move(reply);
}

std::string TestVm::guest(const std::string& command) const {
  std::string out;
  with_agent([&](qmp::GuestAgent& agent, const qmp::CallOptions& options) {
    auto result = agent.exec({"/bin/sh", {"-c", command}, {}}, options);
    if (!result) {
      throw std::runtime_error(result.error().what);
    }
    if (!result->ok()) {
      throw std::runtime_error(
          fmt::format("in the guest: {}: {}{}", command, result->out, result->err));
    }
    out = result->out;
  });
  return out;
}

void TestVm::deliver(const std::string& host_path, const std::string& guest_path) const {
  const std::string text = read_file(host_path);
  with_agent([&](qmp::GuestAgent& agent, const qmp::CallOptions& options) {
    if (auto written = agent.write_file(guest_path, std::as_bytes(std::span(text)), options);
        !written) {
      throw std::runtime_error(written.error().what);
    }
  });
}

std::vector<std::string> TestVm::vpatch_argv(const std::string& verb,
                                             const std::vector<std::string>& arguments) const {
  std::vector<std::string> argv = {VPATCH_PROGRAM, verb};
  const auto flags = target_flags();
  argv.insert(argv.end(), flags.begin(), flags.end());
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

ProcessResult TestVm::vpatch(const std::string& verb,
                             const std::vector<std::string>& arguments) const {
  return run(vpatch_argv(verb, arguments));
}

std::string TestVm::fingerprint() const {
  return guest(
      "ls /sys/kernel/livepatch; cut -d' ' -f1 /proc/modules | sort; ls /run /tmp | grep -v utmp; "
      "cat /proc/cmdline /proc/version /sys/kernel/vpatch_target/value");
}

std::string TestVm::trouble() const {
  return guest("dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|lockup|general protection' || true");
}

bool eventually(const std::function<bool()>& condition, std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  const auto holds = [&condition] {
    try {
      return condition();
    } catch (const std::runtime_error&) {
      return false;  // an agent that is busy, say
    }
  };
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

std::ostream& operator<<(std::ostream& out, const ProcessResult& result) {
  return out << "exit code " << result.exit_code << "\nstdout:\n"
             << result.out << "\nstderr:\n"
             << result.err;
}

}  // namespace vpatch::test

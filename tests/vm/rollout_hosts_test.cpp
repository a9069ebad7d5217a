// SPDX-License-Identifier: Apache-2.0
// Rollouts over other hosts: by ssh, with the vpatch, the journal and the libvirt of each.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/fleet_fixture.h"

namespace vpatch::test {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using std::chrono::seconds;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// For what is in the plan's hands: an apply, a lost connection, a reconnect.
constexpr seconds kLong{240};
constexpr std::chrono::milliseconds kLook{50};
constexpr std::size_t kHosts = 3;

struct RolloutEvent {
  std::string domain;
  std::string kind;
  std::string text;
};

/// What `rollout start --json` has printed so far.
std::vector<RolloutEvent> events_in(std::string_view text) {
  std::vector<RolloutEvent> events;
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const json::value line = json::parse(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (const json::object* event = line.if_object(); event->contains("kind")) {
      const json::value& domain = event->at("domain");
      events.push_back({domain.is_null() ? "" : std::string(domain.as_string()),
                        std::string(event->at("kind").as_string()),
                        std::string(event->at("text").as_string())});
    }
  }
  return events;
}

/// Three hosts, the first with two guests and a key that may start `vpatch serve` only. The driver
/// has a journal and files of its own where none of the hosts can see them: in /run.
class RolloutHostsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = "/run/vpatch-test-rollout-hosts";
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    hosts_ = std::make_unique<TestHosts>("vrh", kHosts);
    hosts_->tell(0, "exec",
                 {"sed", "-i", R"(s/^restrict /command="vpatch serve --stdio",restrict /)",
                  "/etc/ssh/authorized_keys"});
    fleet_ = std::make_unique<TestFleet>(
        "vpatch-test-rollout-hosts",
        std::vector<FleetMember>{{.kernel = "6.1", .host = hosts_->name(0)},
                                 {.kernel = "6.12", .host = hosts_->name(0)},
                                 {.kernel = "6.1", .host = hosts_->name(1)},
                                 {.kernel = "6.12", .host = hosts_->name(2)}});
  }
  static void TearDownTestSuite() {
    fleet_.reset();
    hosts_.reset();
    fs::remove_all(folder_);
  }

  static const FleetGuest& guest(std::size_t index) { return (*fleet_)[index]; }

  /// A plan over all hosts of this livepatch for both kernels. Its files are gone from where hosts
  /// could read them.
  static std::string plan(const std::string& name, const std::string& patch,
                          const std::string& more) {
    std::string text = fmt::format("name: {}\nfiles:\n", name);
    for (const char* kernel : {"6.1", "6.12"}) {
      const fs::path module = module_path(patch, kernel);
      const std::string file = fmt::format("{}/{}-{}.ko", folder_, patch, kernel);
      fs::copy_file(module, file, fs::copy_options::overwrite_existing);
      std::string release = read_file(module.parent_path().parent_path() / "release");
      release.erase(release.find_last_not_of('\n') + 1);
      text += fmt::format("  - {{kernel: {}, file: {}}}\n", release, file);
    }
    text += "connections:\n";
    for (std::size_t host = 0; host < kHosts; ++host) {
      text += fmt::format("  - {}\n", hosts_->uri(host));
    }
    std::string path = fmt::format("{}/{}.yaml", folder_, name);
    write_file(path, text + more);
    return path;
  }

  static std::vector<std::string> driver(std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"env", fmt::format("VPATCH_JOURNAL={}/journal.db", folder_), VPATCH_PROGRAM});
    return words;
  }

  static json::object report(const std::string& name) {
    const ProcessResult result = run(driver({"rollout", "report", name, "--json"}));
    EXPECT_EQ(result.exit_code, 0) << result;
    return json::parse(result.out).as_object();
  }

  static std::string state_of(const json::object& report, const FleetGuest& guest) {
    for (const json::value& domain : report.at("domains").as_array()) {
      if (domain.at("name").as_string() == guest.name()) {
        return std::string(domain.at("state").as_string());
      }
    }
    return "not there";
  }

  /// As its administrator would run it there: with its own journal.
  static json::object on_host(std::size_t host, std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", VPATCH_PROGRAM});
    words.emplace_back("--json");
    return json::parse(hosts_->tell(host, "exec", words)).as_object();
  }

  /// "VERB PATCH DOMAIN OUTCOME" of all that a journal has, the newest first.
  static std::vector<std::string> operations_in(const json::object& history) {
    std::vector<std::string> lines;
    for (const json::value& each : history.at("operations").as_array()) {
      const json::value& outcome = each.at("outcome");
      lines.push_back(fmt::format("{} {} {} {}", std::string(each.at("verb").as_string()),
                                  std::string(each.at("patch").as_string()),
                                  std::string(each.at("domain").as_string()),
                                  outcome.is_null() ? "-" : std::string(outcome.as_string())));
    }
    return lines;
  }

  static std::vector<std::string> operations(std::size_t host) {
    return operations_in(on_host(host, {"history"}));
  }

  static std::string in_force(const FleetGuest& guest) {
    return guest.vm().guest("cd /sys/kernel/livepatch && echo *");
  }

  /// How often the kernel has put this livepatch in force.
  static std::string times_patched(const FleetGuest& guest, const std::string& patch) {
    return guest.vm().guest(fmt::format("dmesg | grep -c \"'{}': patching complete\"; :", patch));
  }

  static std::size_t host_of(std::size_t guest) { return guest < 2 ? 0 : guest - 1; }

  static inline std::string folder_;
  static inline std::unique_ptr<TestHosts> hosts_;
  static inline std::unique_ptr<TestFleet> fleet_;
};

TEST_F(RolloutHostsTest, HostsPatchTheirOwnGuestsAndPutBackWhatWas) {
  // Registered and in force on one of them; the rollout's replaces it.
  on_host(1, {"apply", "--domain", guest(2).name(), "--grace", "0", "--persist",
              guest(2).module("vpatch_cum_v1")});

  const ProcessResult rolled =
      run(driver({"rollout", "start",
                  plan("forth", "vpatch_cum_v2",
                       "healthy_for: 0s\ncanary: {amount: 1, soak: 0s}\napply: {grace: 0}\n")}));
  ASSERT_EQ(rolled.exit_code, 0) << rolled;
  for (std::size_t i = 0; i < fleet_->size(); ++i) {
    EXPECT_EQ(in_force(guest(i)), "vpatch_cum_v2\n") << guest(i).name();
    EXPECT_THAT(operations(host_of(i)),
                testing::Contains(fmt::format("apply vpatch_cum_v2 {} done", guest(i).name())));
  }
  for (const auto& each : *fleet_) {
    for (std::size_t host = 0; host < kHosts; ++host) {
      if (each->member().host != hosts_->name(host)) {
        EXPECT_THAT(operations(host), Each(Not(HasSubstr(each->name()))));
      }
    }
  }
  const ProcessResult own = run(driver({"history", "--json"}));
  EXPECT_THAT(operations_in(json::parse(own.out).as_object()), IsEmpty());

  const ProcessResult back = run(driver({"rollout", "rollback", "forth"}));
  EXPECT_EQ(back.exit_code, 4) << back;
  for (std::size_t i = 0; i < fleet_->size(); ++i) {
    EXPECT_EQ(in_force(guest(i)), i == 2 ? "vpatch_cum_v1\n" : "*\n") << guest(i).name();
    const json::object listed =
        on_host(host_of(i), {"ensure", "--list", "--domain", guest(i).name()});
    const json::array& registrations = listed.at("registrations").as_array();
    ASSERT_EQ(registrations.size(), i == 2 ? 1U : 0U) << guest(i).name();
    if (i == 2) {
      EXPECT_EQ(registrations[0].at("patch").as_string(), "vpatch_cum_v1");
    }
  }
}

/// A rollout that runs beside the test.
class Running {
 public:
  explicit Running(const std::vector<std::string>& argv) : process_(argv) {}

  bool has(std::string_view kind, const std::string& about) const {
    const auto events = events_in(process_.out_so_far());
    return std::ranges::any_of(events, [&](const RolloutEvent& event) {
      return event.kind == kind && (event.domain == about || event.text.starts_with(about));
    });
  }
  bool waits_for(std::string_view kind, const std::string& about) const {
    return eventually(
        [&] {
          std::this_thread::sleep_for(kLook);
          return has(kind, about);
        },
        kLong);
  }
  ProcessResult wait() { return process_.wait(); }
  std::string so_far() const { return process_.out_so_far() + process_.err_so_far(); }

 private:
  Process process_;
};

TEST_F(RolloutHostsTest, NoHostIsHeldUpByOneThatHangsAndOneThatDies) {
  const std::string before = times_patched(guest(2), "vpatch_cum_v3");
  ASSERT_EQ(before, "0\n");
  Running rollout(driver({"rollout", "start", "--json",
                          plan("faults", "vpatch_cum_v3",
                               "healthy_for: 3s\nlimits: {per_domain: 45s, budget: 100%}\n"
                               "apply: {timeout: 20s, grace: 0}\n")}));
  const auto is_applying = [](std::size_t host) {
    return eventually(
        [host] {
          hosts_->tell(host, "exec", {"pgrep", "-f", "vpatch apply"});
          return true;
        },
        kLong);
  };
  ASSERT_TRUE(rollout.waits_for("applying", guest(2).name())) << rollout.so_far();
  ASSERT_TRUE(is_applying(1)) << rollout.so_far();
  hosts_->tell(1, "hang");
  ASSERT_TRUE(is_applying(2)) << rollout.so_far();
  hosts_->tell(2, "die");

  EXPECT_TRUE(rollout.waits_for("done", guest(0).name())) << rollout.so_far();
  EXPECT_TRUE(rollout.waits_for("done", guest(1).name())) << rollout.so_far();
  EXPECT_TRUE(rollout.waits_for("connection-lost", hosts_->uri(1))) << rollout.so_far();
  EXPECT_TRUE(rollout.waits_for("connection-lost", hosts_->uri(2))) << rollout.so_far();
  EXPECT_TRUE(rollout.has("unknown", guest(2).name())) << rollout.so_far();
  EXPECT_FALSE(rollout.has("done", guest(2).name())) << rollout.so_far();
  hosts_->tell(1, "thaw");

  const ProcessResult ended = rollout.wait();
  EXPECT_EQ(ended.exit_code, 8) << ended;  // one of its domains needs a look
  const json::object report = RolloutHostsTest::report("faults");
  EXPECT_EQ(state_of(report, guest(2)), "done") << ended;
  EXPECT_EQ(state_of(report, guest(3)), "failed") << ended;
  EXPECT_THAT(ended.out, HasSubstr(R"("outcome":"unreachable")"));
  EXPECT_TRUE(rollout.has("connection-up", hosts_->uri(1))) << ended;
  for (const std::size_t i : {0UL, 1UL, 2UL}) {
    EXPECT_EQ(in_force(guest(i)), "vpatch_cum_v3\n") << guest(i).name();
    EXPECT_EQ(times_patched(guest(i), "vpatch_cum_v3"), "1\n") << guest(i).name();
  }
  EXPECT_EQ(std::ranges::count(operations(1),
                               fmt::format("apply vpatch_cum_v3 {} done", guest(2).name())),
            1);
}

TEST_F(RolloutHostsTest, DeadHostIsNamedAndCanBeLeftOut) {
  hosts_->tell(2, "die");
  const std::string path = plan("left-out", "vpatch_indep",
                                "healthy_for: 0s\napply: {grace: 0, allow-stacking: true}\n");
  const ProcessResult refused = run(driver({"rollout", "start", path}));
  EXPECT_EQ(refused.exit_code, 6) << refused;
  EXPECT_THAT(refused.err, HasSubstr(hosts_->uri(2))) << refused;
  EXPECT_THAT(refused.err, AllOf(Not(HasSubstr(hosts_->uri(0))), Not(HasSubstr(hosts_->uri(1)))));

  const ProcessResult rolled = run(driver({"rollout", "start", "--skip-unreachable", path}));
  EXPECT_EQ(rolled.exit_code, 0) << rolled;
  EXPECT_THAT(rolled.err, HasSubstr("left out: " + hosts_->uri(2))) << rolled;
  const json::object report = RolloutHostsTest::report("left-out");
  const json::array& timeline = report.at("timeline").as_array();
  EXPECT_TRUE(std::ranges::any_of(timeline, [](const json::value& event) {
    return event.at("kind").as_string() == "left-out" &&
           std::string(event.at("text").as_string()).find(hosts_->uri(2)) != std::string::npos;
  }));
  for (const std::size_t i : {0UL, 1UL, 2UL}) {
    EXPECT_EQ(state_of(report, guest(i)), "done") << rolled;
  }
  EXPECT_EQ(state_of(report, guest(3)), "not there");
}

}  // namespace
}  // namespace vpatch::test

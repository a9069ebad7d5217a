// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/domain_watch.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::exporter {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

/// Bound of a wait that only a broken test meets.
constexpr auto kPatience = 60s;
constexpr const char* kUri = "test:///default";

/// A watch whose domains and looks are made up. An identity says what fake-status does.
class DomainWatchTest : public testing::Test {
 public:
  ~DomainWatchTest() override {
    watch_.reset();
    pool_.join();
    context_.restart();
    context_.run_for(kPatience);  // until the processes are gone
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

 protected:
  DomainWatchTest() {
    std::string name = testing::TempDir() + "vpatch-watch-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    setup_.program = FAKE_STATUS;
    setup_.connections = {kUri};
    setup_.interval = 20ms;
    setup_.list = [this](const std::string& connection) { return list(connection); };
    setup_.on_error = [this](const std::string& source, const std::string& what) {
      errors_.emplace_back(source, what);
    };
  }

  void have(std::vector<std::string> identities) {
    const std::scoped_lock lock(mutex_);
    identities_ = std::move(identities);
    libvirt_answers_ = true;
  }
  void have_no_libvirt() {
    const std::scoped_lock lock(mutex_);
    libvirt_answers_ = false;
  }

  void start() {
    watch_.emplace(context_, pool_, setup_);
    watch_->start();
  }
  /// Up to so many events.
  void run_some(int events) {
    for (int i = 0; i < events; ++i) {
      context_.run_one_for(1ms);
    }
  }
  template <class Condition>
  void run_until(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), end);
      context_.run_one_for(1s);
    }
  }
  const WatchedDomain* find(const std::string& identity) const {
    if (!watch_) {
      return nullptr;
    }
    const auto found = watch_->domains().find({kUri, identity});
    return found == watch_->domains().end() ? nullptr : &found->second;
  }
  std::size_t count() const { return watch_ ? watch_->domains().size() : 0; }
  bool is(const std::string& identity, bool up) const {
    const WatchedDomain* const domain = find(identity);
    return domain != nullptr && domain->up == up;
  }

  std::string hanging() const { return folder_ + "/hangs"; }
  /// Of the processes that were started for it.
  std::vector<pid_t> pids() const {
    std::ifstream file(folder_ + "/pids");
    return {std::istream_iterator<pid_t>(file), {}};
  }

  WatchSetup setup_;
  std::optional<DomainWatch> watch_;
  std::vector<std::pair<std::string, std::string>> errors_;

 private:
  Result<std::vector<ListedDomain>> list(const std::string& connection) {
    const std::scoped_lock lock(mutex_);
    if (!libvirt_answers_ || connection != kUri) {
      return fail(Outcome::unreachable, "no libvirt");
    }
    std::vector<ListedDomain> domains;
    domains.reserve(identities_.size());
    for (const std::string& identity : identities_) {
      domains.push_back({"name of " + identity, identity, RunState::running, ""});
    }
    return domains;
  }

  std::string folder_;
  boost::asio::io_context context_{1};
  boost::asio::thread_pool pool_{2};
  std::mutex mutex_;
  std::vector<std::string> identities_;
  bool libvirt_answers_ = true;
};

TEST_F(DomainWatchTest, LooksAtEachDomain) {
  have({"one", "tainted"});
  start();
  run_until([&] { return is("one", true) && is("tainted", true); });
  EXPECT_EQ(find("one")->name, "name of one");
  EXPECT_EQ(find("one")->look.tainted, 0U);
  EXPECT_EQ(find("tainted")->look.tainted, 512U);
  EXPECT_TRUE(find("one")->looked_at);
}

TEST_F(DomainWatchTest, LooksAgain) {
  have({"one"});
  start();
  run_until([&] { return is("one", true); });
  const auto first = find("one")->looked_at;
  run_until([&] { return find("one")->looked_at != first; });
}

TEST_F(DomainWatchTest, ForgetsADomainThatIsGone) {
  have({"one", "two"});
  start();
  run_until([&] { return is("one", true) && is("two", true); });
  have({"two"});
  run_until([&] { return find("one") == nullptr; });
  EXPECT_NE(find("two"), nullptr);
}

TEST_F(DomainWatchTest, KeepsItsDomainsWhileLibvirtIsAway) {
  have({"one"});
  start();
  run_until([&] { return is("one", true); });
  have_no_libvirt();
  run_until([&] { return !errors_.empty(); });
  EXPECT_THAT(errors_, Contains(Pair("list", "no libvirt")));
  EXPECT_NE(find("one"), nullptr);
}

TEST_F(DomainWatchTest, SaysOfADomainThatCannotBeReadOnlyThatItIsDown) {
  have({"off"});
  start();
  run_until([&] { return is("off", false); });
  EXPECT_THAT(errors_, IsEmpty());
  EXPECT_FALSE(find("off")->looked_at);
}

TEST_F(DomainWatchTest, CountsLooksThatGoWrong) {
  for (const char* how : {"dies", "floods", "garbage"}) {
    errors_.clear();
    have({how});
    start();
    run_until([&] { return is(how, false); });
    EXPECT_THAT(errors_, Contains(Pair("look", testing::HasSubstr(how)))) << how;
  }
}

TEST_F(DomainWatchTest, EndsALookThatHangs) {
  setup_.look_limit = 200ms;
  have({hanging()});
  start();
  run_until([&] { return is(hanging(), false); });
  EXPECT_THAT(errors_, Contains(Pair("look", testing::HasSubstr("hangs"))));
  run_until([&] { return pids().size() >= 2; });  // it is looked at again
  run_until([&] { return kill(pids().front(), 0) != 0; });
}

TEST_F(DomainWatchTest, LooksAtOthersWhileOneHangs) {
  setup_.parallel = 2;
  setup_.look_limit = kPatience;
  have({hanging(), "one", "two"});
  start();
  run_until([&] { return is("one", true) && is("two", true) && !pids().empty(); });
  const auto first = find("two")->looked_at;
  run_until([&] { return find("two")->looked_at != first; });
  EXPECT_FALSE(find(hanging())->up);
  EXPECT_THAT(pids(), SizeIs(1)) << "one look at a time";
}

TEST_F(DomainWatchTest, LeavesNoProcessBehind) {
  setup_.look_limit = kPatience;
  have({hanging()});
  start();
  run_until([&] { return !pids().empty(); });
  watch_.reset();
  EXPECT_TRUE(errors_.empty());
  setup_.connections.clear();
  start();
  run_until([&] { return kill(pids().front(), 0) != 0; });
}

TEST_F(DomainWatchTest, EndsAtAnyMoment) {
  setup_.interval = 0ms;
  setup_.look_limit = 5ms;
  have({"one", hanging()});
  for (int i = 0; i < 100; ++i) {
    start();
    run_some(i);
    watch_.reset();
    run_some(i);
  }
}

TEST_F(DomainWatchTest, LooksWhereAnotherConnectionIsAway) {
  setup_.connections = {"qemu:///session", kUri};
  have({"one"});
  start();
  run_until([&] { return is("one", true); });
  EXPECT_THAT(errors_, Contains(Pair("list", "no libvirt")));
  EXPECT_EQ(count(), 1U);
}

}  // namespace
}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/serve_session.h"

#include <fstream>
#include <iterator>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/livepatch_builder.h"
#include "tests/unit/journal/journal_support.h"

namespace vpatch::fleet {
namespace {

using namespace std::chrono_literals;
using rollout::Finished;
using rollout::HealthVerdict;
using rollout::Looked;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

LivepatchFile livepatch(const std::string& name, bool replace) {
  test::LivepatchSpec spec;
  spec.name = name;
  spec.set("name", name);
  spec.contents.replace = replace;
  return parse_livepatch(test::make_livepatch(spec).build(), name).value();
}

/// `vpatch health` of a guest with these livepatches in force.
std::string guest_with(const std::vector<std::string>& patches, const std::string& health = "pass",
                       int exit_code = 0) {
  std::string list;
  for (const std::string& patch : patches) {
    list += fmt::format(R"({}{{"name":"{}","build_id":"b-{}","phase":"patched"}})",
                        list.empty() ? "" : ",", patch, patch);
  }
  return fmt::format(
      "echo '{{\"health\":\"{}\",\"text\":\"so it is\",\"state\":\"running\",\"taint\":0,"
      "\"boot_id\":\"boot\",\"log_sequence\":5,\"patches\":[{}]}}'; exit {}\n",
      health, list, exit_code);
}

constexpr const char* kOff =
    R"(echo '{"health":"inconclusive","text":"off","state":"shut off","taint":null}'; exit 6)";

class ServeSessionTest : public JournalTest {
 public:
  ~ServeSessionTest() override {
    session_.reset();
    context_.restart();
    context_.run_for(0ms);
  }

 protected:
  ServeSessionTest() {
    ours_ = livepatch("ours", true);
    stored_.begin.files = {{.path = "/ours.ko",
                            .sha256 = ours_.sha256,
                            .patch = "ours",
                            .build_id = "b-ours",
                            .release = ""}};
    add_domain("web0");
    know(ours_);
  }

  void add_domain(const std::string& name) {
    std::filesystem::create_directories(folder() / name);
    stored_.begin.domains.push_back({.connection = "qemu:///system",
                                     .name = name,
                                     .identity = (folder() / name).string(),
                                     .release = "",
                                     .file = 0});
  }
  void know(const LivepatchFile& file) { files_[file.sha256] = file.bytes; }
  void script(const std::string& work, const std::string& text,
              const std::string& domain = "web0") {
    std::ofstream(folder() / domain / work) << text << "\n";
  }
  std::vector<std::string> log(const std::string& domain = "web0") const {
    std::ifstream file(folder() / domain / "log");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
      lines.push_back(line);
    }
    return lines;
  }
  /// The works of the log alone.
  std::vector<std::string> works(const std::string& domain = "web0") const {
    std::vector<std::string> words;
    for (const std::string& line : log(domain)) {
      words.push_back(line.substr(0, line.find(' ')));
    }
    return words;
  }
  std::string line_of(const std::string& work) const {
    for (const std::string& line : log()) {
      if (line.starts_with(work + " ")) {
        return line;
      }
    }
    return "";
  }

  void connect() {
    SessionEvents events;
    events.answer = [this](const rollout::Event& event) { answers_.push_back(event); };
    events.up = [this] { up_ = true; };
    events.lost = [this](const std::string& why) { lost_.push_back(why); };
    events.left = [](rollout::DomainId, bool) {};
    events.progress = [this](rollout::DomainId, std::string_view kind, const std::string& text) {
      told_.push_back(fmt::format("{}: {}", kind, text));
    };
    events.report = [this](rollout::DomainId, RolloutStore::ReportKind, const auto&) {
      ++reports_;
    };
    events.mark = [this](rollout::DomainId id, const HealthMark& mark,
                         const std::vector<std::string>& former) {
      stored_.begin.domains[id].mark = mark;
      stored_.begin.domains[id].former = former;
      marked_after_ = works();
      return journal_takes_;
    };
    session_ = std::make_unique<ServeSession>(
        context_.get_executor(), HostCommand{{SERVE_PROGRAM, FAKE_HOST, "5000"}, "qemu:///system"},
        plan_, stored_,
        FileAccess{.read = [this](const std::string& sha256) -> Result<std::vector<std::byte>> {
                     ++reads_[sha256];
                     const auto found = files_.find(sha256);
                     if (found == files_.end()) {
                       return fail(Outcome::refused, "no such file");
                     }
                     return found->second;
                   },
                   .keep = [](const std::string&, std::span<const std::byte>) -> Result<void> {
                     return {};
                   }},
        std::move(events));
    session_->connect();
    run_until([this] { return up_; });
  }
  void run_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!done() && std::chrono::steady_clock::now() < end) {
      context_.restart();
      context_.run_for(5ms);
    }
    ASSERT_TRUE(done());
  }
  template <class Answer>
  Answer answer() {
    run_until([this] { return !answers_.empty(); });
    if (answers_.empty() || !std::holds_alternative<Answer>(answers_.front())) {
      ADD_FAILURE() << "no such answer";
      return {};
    }
    auto found = std::get<Answer>(answers_.front());
    answers_.erase(answers_.begin());
    return found;
  }
  Finished apply() {
    session_->apply(0, 7);
    return answer<Finished>();
  }
  Finished revert() {
    session_->revert(0, 8);
    return answer<Finished>();
  }
  HealthVerdict check() {
    session_->check_health(0, 9);
    return answer<HealthVerdict>();
  }

  boost::asio::io_context context_{1};
  rollout::Plan plan_;
  StoredRollout stored_;
  LivepatchFile ours_;
  std::map<std::string, std::vector<std::byte>> files_;
  std::map<std::string, int> reads_;
  std::vector<rollout::Event> answers_;
  std::vector<std::string> lost_, told_, marked_after_;
  int reports_ = 0;
  bool up_ = false;
  bool journal_takes_ = true;
  std::unique_ptr<ServeSession> session_;
};

TEST_F(ServeSessionTest, ApplyLooksKeepsAMarkAndApplies) {
  script("health", guest_with({}));
  connect();
  const Finished finished = apply();
  EXPECT_EQ(finished.outcome, Outcome::done);
  EXPECT_EQ(finished.text, "fine");
  EXPECT_EQ(finished.operation, 7U);
  EXPECT_EQ(finished.found, Finished::Found::nothing_special);
  EXPECT_THAT(works(), ElementsAre("health", "apply"));
  EXPECT_THAT(marked_after_, ElementsAre("health"));
  EXPECT_EQ(stored_.begin.domains[0].mark,
            (HealthMark{.boot_id = "boot", .log_sequence = 5, .taint = 0}));
  EXPECT_THAT(line_of("apply"), HasSubstr(" --persist"));
  EXPECT_THAT(line_of("apply"), HasSubstr(" --settle=0s"));
}

TEST_F(ServeSessionTest, ApplyTakesTheOptionsOfThePlan) {
  plan_.persist = false;
  plan_.apply_options = {"--timeout=9s", "--when-clear"};
  script("health", guest_with({}));
  connect();
  apply();
  EXPECT_THAT(line_of("apply"), HasSubstr(" --timeout=9s --when-clear"));
  EXPECT_THAT(line_of("apply"), testing::Not(HasSubstr("--persist")));
}

TEST_F(ServeSessionTest, FileIsPutOnceForAConnection) {
  script("health", guest_with({}));
  connect();
  apply();
  apply();
  EXPECT_EQ(reads_[ours_.sha256], 1);
}

TEST_F(ServeSessionTest, NothingIsAppliedWithoutAMarkInTheJournal) {
  script("health", guest_with({}));
  journal_takes_ = false;
  connect();
  EXPECT_EQ(apply().outcome, Outcome::refused);
  EXPECT_THAT(works(), ElementsAre("health"));
}

TEST_F(ServeSessionTest, ApplySaysWhenItWasInForceBefore) {
  script("health", guest_with({"ours"}));
  connect();
  EXPECT_EQ(apply().found, Finished::Found::in_force);
}

TEST_F(ServeSessionTest, UnhealthyGuestIsNotPatched) {
  script("health", guest_with({}, "fail", 8));
  connect();
  const Finished finished = apply();
  EXPECT_EQ(finished.outcome, Outcome::refused);
  EXPECT_THAT(finished.text, HasSubstr("not healthy before: so it is"));
  EXPECT_THAT(works(), ElementsAre("health"));
}

TEST_F(ServeSessionTest, GuestThatCannotBeToldIsNotPatched) {
  script("health", guest_with({}, "inconclusive", 6));
  connect();
  EXPECT_EQ(apply().outcome, Outcome::unreachable);
  EXPECT_THAT(works(), ElementsAre("health"));
}

TEST_F(ServeSessionTest, ChangesWhoseEndWasNotSeenAreToBeLookedAt) {
  constexpr const char* kUnseen = R"(echo '{"findings":[{"id":"unseen"}]}'; exit 8)";
  script("health", guest_with({"ours"}));
  script("apply", kUnseen);
  script("revert", kUnseen);
  connect();
  EXPECT_EQ(apply().outcome, Outcome::unreachable);
  EXPECT_EQ(revert().outcome, Outcome::unreachable);
}

TEST_F(ServeSessionTest, DomainThatIsOffIsRegistered) {
  script("health", kOff);
  connect();
  const Finished finished = apply();
  EXPECT_EQ(finished.outcome, Outcome::done);
  EXPECT_EQ(finished.found, Finished::Found::off);
  EXPECT_THAT(works(), ElementsAre("health", "registered", "register"));
}

TEST_F(ServeSessionTest, WhatIsRegisteredForADomainThatIsOffIsKept) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  script("registered", fmt::format(R"(echo '{{"registrations":[{{"patch":"former",)"
                                   R"("file_sha256":"{}"}}]}}')",
                                   former.sha256));
  connect();
  session_->leave_to_ensure(0);
  run_until([this] { return !told_.empty(); });
  EXPECT_THAT(works(), ElementsAre("registered", "register"));
  EXPECT_THAT(stored_.begin.domains[0].former, ElementsAre(former.sha256));
  // Once more: what is registered now is ours.
  script("registered", fmt::format(R"(echo '{{"registrations":[{{"patch":"ours",)"
                                   R"("file_sha256":"{}"}}]}}')",
                                   ours_.sha256));
  session_->leave_to_ensure(0);
  run_until([this] { return told_.size() == 2; });
  EXPECT_THAT(stored_.begin.domains[0].former, ElementsAre(former.sha256));
}

TEST_F(ServeSessionTest, NothingIsRegisteredForAPlanThatDoesNotPersist) {
  plan_.persist = false;
  script("health", kOff);
  connect();
  EXPECT_EQ(apply().found, Finished::Found::off);
  session_->leave_to_ensure(0);
  apply();
  EXPECT_THAT(works(), ElementsAre("health", "health"));
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(ServeSessionTest, RegisteredFilesOfWhatIsInForceAreKept) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  script("health", guest_with({"former", "byhand"}));
  script("registered", fmt::format(R"(echo '{{"registrations":[7,{{"patch":"other"}},)"
                                   R"({{"patch":"former","file_sha256":"{}"}}]}}')",
                                   former.sha256));
  connect();
  EXPECT_EQ(apply().outcome, Outcome::done);
  EXPECT_THAT(stored_.begin.domains[0].former, ElementsAre(former.sha256));
  EXPECT_THAT(told_, Contains(HasSubstr("byhand is in force, and its file is not registered")));
}

TEST_F(ServeSessionTest, LostInTheMiddleThereIsNoAnswer) {
  script("health", "kill -KILL $(ps -o ppid= -p $$)");  // the server
  connect();
  session_->check_health(0, 9);
  run_until([this] { return !lost_.empty(); });
  context_.restart();
  context_.run_for(50ms);
  EXPECT_THAT(answers_, IsEmpty());
}

TEST_F(ServeSessionTest, WhatIsInForceAfterACutIsRegistered) {
  script("health", guest_with({"ours"}));
  connect();
  session_->look(0, 1);
  EXPECT_EQ(answer<Looked>().guest, Looked::Guest::in_force);
  EXPECT_THAT(works(), ElementsAre("health", "register"));
}

TEST_F(ServeSessionTest, LookTellsWhatIsInForce) {
  connect();
  const auto look = [&](const std::string& health) {
    script("health", health);
    session_->look(0, 1);
    return answer<Looked>().guest;
  };
  EXPECT_EQ(look(guest_with({"ours"})), Looked::Guest::in_force);
  EXPECT_EQ(look(guest_with({"another"})), Looked::Guest::absent);
  EXPECT_EQ(look(kOff), Looked::Guest::off);
  EXPECT_EQ(
      look(R"(echo '{"health":"inconclusive","state":"paused","taint":0,"patches":[]}'; exit 6)"),
      Looked::Guest::unreachable)
      << "nothing can be begun in it, so that it is waited for";
  EXPECT_EQ(look("exit 6"), Looked::Guest::unreachable);
  EXPECT_EQ(look("echo no JSON"), Looked::Guest::unreachable);
  EXPECT_EQ(look(R"(echo '{"state":"running","taint":0,"busy":"apply of another"}')"),
            Looked::Guest::pending);
}

// Health.

TEST_F(ServeSessionTest, HealthIsHeldAgainstTheMark) {
  stored_.begin.domains[0].mark = HealthMark{.boot_id = "boot", .log_sequence = 5, .taint = 1};
  script("health", guest_with({"ours"}));
  connect();
  EXPECT_EQ(check().health, HealthVerdict::Health::pass);
  EXPECT_THAT(line_of("health"), HasSubstr("boot"));
  EXPECT_EQ(reports_, 1);
}

TEST_F(ServeSessionTest, PatchThatIsGoneIsAFailure) {
  script("health", guest_with({}));
  connect();
  const HealthVerdict verdict = check();
  EXPECT_EQ(verdict.health, HealthVerdict::Health::fail);
  EXPECT_THAT(verdict.text, HasSubstr("no longer in force"));
}

TEST_F(ServeSessionTest, ChecksOfThePlanRunHereAndInTheGuest) {
  script("health", guest_with({"ours"}));
  plan_.checks = {
      {.name = "outside", .argv = {"sh", "-c", "test {domain} = web0"}, .in_guest = false},
      {.name = "inside", .argv = {"true"}, .in_guest = true}};
  connect();
  EXPECT_EQ(check().health, HealthVerdict::Health::pass);
  plan_.checks[0].argv = {"sh", "-c", "echo broken >&2; exit 1"};
  const HealthVerdict verdict = check();
  EXPECT_EQ(verdict.health, HealthVerdict::Health::fail);
  EXPECT_EQ(verdict.text, "check outside: exit code 1: broken");
}

// Cancel.

TEST_F(ServeSessionTest, CancelDropsWhatIsNotBegun) {
  script("health", guest_with({}));
  connect();
  session_->apply(0, 7);
  session_->cancel(7);
  EXPECT_NE(answer<Finished>().outcome, Outcome::done);
  EXPECT_THAT(works(), IsEmpty());
}

TEST_F(ServeSessionTest, CancelBetweenTwoRequestsKeepsTheApplyFromBeginning) {
  script("health", "trap '' INT; echo begun >running; while [ ! -e go ]; do sleep 0.02; done; " +
                       guest_with({}));
  connect();
  session_->apply(0, 7);
  run_until([this] { return exists(folder() / "web0" / "running"); });
  session_->cancel(7);
  script("go", "");
  EXPECT_EQ(answer<Finished>().outcome, Outcome::refused);
  EXPECT_THAT(works(), ElementsAre("health"));
}

TEST_F(ServeSessionTest, CancelInterruptsTheApply) {
  script("health", guest_with({}));
  script("apply", R"(trap 'echo "{\"summary\":\"taken back\"}"; exit 7' INT
    echo begun >running; while :; do sleep 0.02; done)");
  connect();
  session_->apply(0, 7);
  run_until([this] { return exists(folder() / "web0" / "running"); });
  session_->cancel(7);
  EXPECT_EQ(answer<Finished>().text, "taken back");
}

TEST_F(ServeSessionTest, CancelKillsACheckOfThisHost) {
  script("health", guest_with({"ours"}));
  plan_.checks = {{.name = "slow",
                   .argv = {"sh", "-c", "echo >{identity}/running; exec sleep 600"},
                   .in_guest = false,
                   .timeout = 600s}};
  connect();
  session_->check_health(0, 9);
  run_until([this] { return exists(folder() / "web0" / "running"); });
  session_->cancel(9);
  EXPECT_EQ(answer<HealthVerdict>().text, "check slow: it was interrupted");
}

// The way back.

TEST_F(ServeSessionTest, RevertTakesItOut) {
  script("health", guest_with({"ours"}));
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "revert"));
  EXPECT_THAT(line_of("revert"), HasSubstr(" ours"));
}

TEST_F(ServeSessionTest, RevertPutsWhatWasBeforeInItsPlace) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  stored_.begin.domains[0].former = {former.sha256};
  script("health", guest_with({"ours"}));
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "revert"));
  EXPECT_THAT(line_of("revert"), HasSubstr("--to"));
  EXPECT_THAT(line_of("revert"), HasSubstr("--persist"));
}

TEST_F(ServeSessionTest, WhatMayNotTakeItsPlaceComesAfterIt) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  stored_.begin.domains[0].former = {former.sha256};
  script("health", guest_with({"ours"}));
  script("revert", R"(case "$*" in *--to*) echo '{"summary":"an older state"}'; exit 3 ;; esac
    echo '{"summary":"out"}')");
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "revert", "revert", "apply"));
  EXPECT_THAT(line_of("apply"), HasSubstr("--allow-stacking"));
}

TEST_F(ServeSessionTest, RebootedGuestGetsWhatWasBeforeAndOursIsForgotten) {
  const LivepatchFile former = livepatch("former", false);
  know(former);
  stored_.begin.domains[0].former = {former.sha256};
  script("health", guest_with({}));
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "forget", "apply"));
}

TEST_F(ServeSessionTest, RevertOfADomainThatIsOffForgetsAndRegistersWhatWasBefore) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  stored_.begin.domains[0].former = {former.sha256};
  script("health", kOff);
  script("forget", R"(echo '{"findings":[{"id":"not-registered"}]}'; exit 3)");
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "forget", "register"));
}

TEST_F(ServeSessionTest, RevertOfADomainThatIsOffIsDoneWithoutPersistToo) {
  const LivepatchFile former = livepatch("former", true);
  know(former);
  plan_.persist = false;
  stored_.begin.domains[0].former = {former.sha256};
  script("health", kOff);
  connect();
  EXPECT_EQ(revert().outcome, Outcome::done);
  EXPECT_THAT(works(), ElementsAre("health", "forget"));
}

TEST_F(ServeSessionTest, WhatOthersHavePutInItsPlaceIsLeftAlone) {
  script("health", guest_with({"stranger"}));
  connect();
  const Finished finished = revert();
  EXPECT_EQ(finished.outcome, Outcome::done);
  EXPECT_THAT(finished.text, HasSubstr("stranger is in force by now"));
  EXPECT_THAT(works(), ElementsAre("health", "forget"));
}

TEST_F(ServeSessionTest, RevertThatFailsSaysSo) {
  script("health", guest_with({"ours"}));
  script("revert", R"(echo '{"summary":"stalled"}'; exit 5)");
  connect();
  const Finished finished = revert();
  EXPECT_EQ(finished.outcome, Outcome::stalled_waiting);
  EXPECT_EQ(finished.text, "stalled");
}

// Preview.

TEST_F(ServeSessionTest, PreviewIsADryRun) {
  connect();
  std::optional<VerbAnswer> answered;
  session_->preview(0, [&](const VerbAnswer& answer) { answered = answer; });
  run_until([&] { return answered.has_value(); });
  EXPECT_TRUE(answered && answered->done());
  EXPECT_THAT(works(), ElementsAre("apply"));
  EXPECT_THAT(line_of("apply"), HasSubstr("--dry-run"));
  EXPECT_THAT(line_of("apply"), testing::Not(HasSubstr("--persist")));
}

}  // namespace
}  // namespace vpatch::fleet

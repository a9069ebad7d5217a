// SPDX-License-Identifier: Apache-2.0
// Registrations that are made, and looked up, without a look at a guest.
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/domain/fake_domain.h"
#include "tests/unit/inspect/livepatch_builder.h"
#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/render.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kUri = "qemu:///system";

class SilentReporter final : public Reporter {
 public:
  void step(std::string_view /*text*/) override {}
  void progress(std::string_view /*text*/) override {}
  void warning(std::string_view /*text*/) override {}
};

LivepatchFile livepatch(const std::string& name, bool cumulative, const std::string& version = "") {
  test::LivepatchSpec spec;
  spec.name = name;
  spec.set("name", name);
  if (!version.empty()) {
    spec.set("version", version);
  }
  spec.contents.replace = cumulative;
  return parse_livepatch(test::make_livepatch(spec).build(), name + ".ko").value();
}

class RegisterTest : public JournalTest {
 public:
  ~RegisterTest() override { unsetenv("VPATCH_JOURNAL"); }

 protected:
  RegisterTest() { setenv("VPATCH_JOURNAL", file().c_str(), 1); }

  Report put(const LivepatchFile& patch, const PreflightOptions& rules = {}) {
    SilentReporter silent;
    Recorder recorder(silent);
    return register_file(recorder, domain_, kUri, patch, "/root/" + patch.name + ".ko", rules);
  }

  std::vector<Registration> registered() const { return open().registrations({}).value(); }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const Registration& one : registered()) {
      list.push_back(one.patch);
    }
    return list;
  }
  std::size_t operations() const { return open().operations({}).value().size(); }

  FakeDomain domain_;
};

TEST_F(RegisterTest, PutsAFileDownAndLeavesTheGuestAlone) {
  const LivepatchFile patch = livepatch("fix", false, "1.2");
  const Report report = put(patch);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_EQ(report.patch, "fix");
  EXPECT_THAT(domain_.calls, IsEmpty());
  EXPECT_THAT(registered(), ElementsAre(Registration{.identity = domain_.identity(),
                                                     .domain = "web01",
                                                     .connection = kUri,
                                                     .patch = "fix",
                                                     .patch_version = "1.2",
                                                     .file = "/root/fix.ko",
                                                     .file_sha256 = patch.sha256,
                                                     .release = "6.1.0-56-cloud-amd64"}));
  const StoredOperation entry = open().operations({}).value().front();
  EXPECT_EQ(entry.start.verb, "ensure");
  EXPECT_EQ(entry.start.file_sha256, patch.sha256);
  EXPECT_EQ(entry.end->outcome, Outcome::done);
}

TEST_F(RegisterTest, IsAppliedByTheNextEnsure) {
  ASSERT_EQ(put(livepatch("fix", false)).outcome, Outcome::done);
  Journal journal = open();
  const auto found = read_registered(journal, registered().front());
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_FALSE(found->last);
  EXPECT_EQ(decide_ensure({.patch = "fix",
                           .patch_release = found->file.release,
                           .guest_release = found->file.release,
                           .boot_id = "b1",
                           .last = found->last})
                .action,
            EnsureAction::apply);
}

TEST_F(RegisterTest, DoesNothingAgain) {
  ASSERT_EQ(put(livepatch("base", true)).outcome, Outcome::done);
  ASSERT_EQ(put(livepatch("fix", false)).outcome, Outcome::done);
  EXPECT_EQ(put(livepatch("base", true)).outcome, Outcome::done);
  EXPECT_THAT(names(), ElementsAre("base", "fix"));
  EXPECT_EQ(operations(), 2U) << "nothing was done, so nothing is recorded";
}

TEST_F(RegisterTest, MendsACopyThatIsLost) {
  const LivepatchFile patch = livepatch("fix", false);
  ASSERT_EQ(put(patch).outcome, Outcome::done);
  ASSERT_TRUE(std::filesystem::remove(open().copy_of(patch.sha256)));
  EXPECT_EQ(put(patch).outcome, Outcome::done);
  Journal journal = open();
  EXPECT_TRUE(read_registered(journal, registered().front()));
}

TEST_F(RegisterTest, ACumulativeOneTakesThePlaceOfThoseBefore) {
  ASSERT_EQ(put(livepatch("old", true)).outcome, Outcome::done);
  ASSERT_EQ(put(livepatch("fix", false)).outcome, Outcome::done);
  EXPECT_EQ(put(livepatch("new", true)).outcome, Outcome::done);
  EXPECT_THAT(names(), ElementsAre("new"));
}

TEST_F(RegisterTest, IsRefusedWithoutTheSignatureThatIsAskedFor) {
  PreflightOptions rules;
  rules.require_signed = true;
  const Report report = put(livepatch("fix", false), rules);
  EXPECT_EQ(report.outcome, Outcome::refused);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_THAT(report.findings.back().id, HasSubstr("sign"));
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(RegisterTest, IsRefusedWhenTheJournalDoesNotTakeIt) {
  setenv("VPATCH_JOURNAL", "/proc/no/journal.db", 1);
  const Report report = put(livepatch("fix", false));
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("not registered"));
}

class RegistrationsOfTest : public JournalTest {
 protected:
  void SetUp() override {
    Registration other = some_registration();
    other.identity = "6695eb01-f6a4-8304-79aa-97f2502e193f";  // of libvirt's test driver
    other.domain = "its-former-name";
    other.patch = "other";
    for (const Registration& one : {some_registration(), other}) {
      ASSERT_TRUE(journal_.register_patch(operation_, one, some_file()));
    }
  }

  Result<std::vector<Registration>> of(const std::string& domain) {
    Target target;
    target.uri = "test:///default";
    target.domain = domain;
    return registrations_of(journal_, target, {});
  }

  Journal journal_ = open();
  OperationId operation_ = journal_.begin(some_start()).value();
};

TEST_F(RegistrationsOfTest, AreAllWithoutADomain) {
  EXPECT_EQ(of("").value().size(), 2U);
}

TEST_F(RegistrationsOfTest, AreThoseOfTheDomainThatHasTheNameNow) {
  const auto found = of("test").value();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front().patch, "other");
}

TEST_F(RegistrationsOfTest, AreFoundByNameAndIdentityOfADomainThatIsGone) {
  EXPECT_THAT(of("web01").value(), ElementsAre(some_registration()));
  EXPECT_THAT(of(some_registration().identity).value(), ElementsAre(some_registration()));
}

TEST_F(RegistrationsOfTest, AreAnErrorForADomainThatNobodyKnows) {
  const auto found = of("web02");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().outcome, Outcome::unreachable);
}

TEST(RegistrationOutput, HasAllFieldsInTheirOrder) {
  Registration second = some_registration();
  second.patch = "second";
  const auto object = to_json(std::vector<Registration>{some_registration(), second});
  const auto& list = object.at("registrations").as_array();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0], (boost::json::object{{"domain", "web01"},
                                          {"identity", some_registration().identity},
                                          {"connection", kUri},
                                          {"patch", "fix_pipe"},
                                          {"patch_version", "1.2"},
                                          {"file", "/root/fix.ko"},
                                          {"file_sha256", std::string(64, 'a')},
                                          {"release", "6.1.0-56-cloud-amd64"}}));
  EXPECT_EQ(list[1].at("patch"), "second");
}

TEST(RegistrationOutput, IsALineForEach) {
  EXPECT_EQ(render(std::vector<Registration>{some_registration()}),
            "web01: fix_pipe 1.2, for 6.1.0-56-cloud-amd64, from /root/fix.ko\n");
  EXPECT_EQ(render(std::vector<Registration>()), "no livepatch is registered\n");
}

TEST(GroupOutput, NamesTheGroupsOrNone) {
  EXPECT_EQ(render(DomainGroups{"web01", "id", {"web", "db"}}), "web01: web, db\n");
  EXPECT_EQ(render(DomainGroups{"web01", "id", {}}), "web01 is in no group\n");
  const auto object = to_json(DomainGroups{"web01", "id", {"web", "db"}});
  EXPECT_EQ(object.at("identity"), "id");
  EXPECT_EQ(object.at("groups"), (boost::json::array{"web", "db"}));
}

}  // namespace
}  // namespace vpatch

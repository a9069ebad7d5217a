// SPDX-License-Identifier: Apache-2.0
// With libvirt's test driver, which needs no daemon and has one domain, "test", that "runs".
#include "vmm-agent/domain/libvirt_domains.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm-agent/domain/libvirt_connection.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kUri = "test:///default";
constexpr const char* kUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";

/// The driver's domain is as it was made again when its last connection closes, which may be some
/// time after a test.
class LibvirtDomains : public testing::Test {
 protected:
  void SetUp() override {
    const auto domain = find_domain(connection_.get(), kUri, "test").value();
    if (virDomainIsActive(domain.get()) == 0) {
      ASSERT_EQ(virDomainCreate(domain.get()), 0);
    }
    ASSERT_TRUE(change({.replace = true}));
  }

  static Result<DomainGroups> change(const GroupChange& change,
                                     const std::string& domain = "test") {
    Target target;
    target.uri = kUri;
    target.domain = domain;
    return change_groups(target, change, {});
  }
  static std::vector<std::string> groups() { return change({}).value().groups; }
  void shut_off() const {
    const auto domain = find_domain(connection_.get(), kUri, "test").value();
    ASSERT_EQ(virDomainDestroy(domain.get()), 0);
  }

  ConnectionHandle connection_ = open_connection(kUri, {}).value();
};

TEST_F(LibvirtDomains, AreListedWithStateAndMetadata) {
  ASSERT_TRUE(change({.replace = true, .add = {"web"}}));
  const auto list = list_libvirt_domains(kUri, {}).value();
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].name, "test");
  EXPECT_EQ(list[0].identity, kUuid);
  EXPECT_EQ(list[0].state, RunState::running);
  EXPECT_THAT(groups_of(list[0].metadata).value(), ElementsAre("web"));
  shut_off();
  EXPECT_EQ(list_libvirt_domains(kUri, {}).value()[0].state, RunState::shut_off);
}

TEST_F(LibvirtDomains, AreInTheGroupsThatTheyArePutInto) {
  EXPECT_THAT(groups(), IsEmpty());
  const auto set = change({.replace = true, .add = {"web", "frankfurt"}});
  ASSERT_TRUE(set) << set.error().what;
  EXPECT_EQ(set->domain, "test");
  EXPECT_EQ(set->identity, kUuid);
  EXPECT_THAT(set->groups, ElementsAre("web", "frankfurt"));
  EXPECT_THAT(groups(), ElementsAre("web", "frankfurt"));
  EXPECT_THAT(change({.replace = true, .add = {"web", "frankfurt"}}).value().groups,
              ElementsAre("web", "frankfurt"))
      << "again";
  ASSERT_TRUE(change({.remove = {"web"}, .add = {"db"}}));
  EXPECT_THAT(groups(), ElementsAre("frankfurt", "db"));
  ASSERT_TRUE(change({.replace = true}));
  EXPECT_THAT(groups(), IsEmpty());
  EXPECT_TRUE(change({.replace = true})) << "again";
}

TEST_F(LibvirtDomains, KeepTheirGroupsWhileTheyDoNotRun) {
  ASSERT_TRUE(change({.add = {"before"}}));
  shut_off();
  EXPECT_THAT(groups(), ElementsAre("before")) << "it was written to the configuration too";
  ASSERT_TRUE(change({.add = {"after"}}));
  EXPECT_THAT(groups(), ElementsAre("before", "after"));
}

TEST_F(LibvirtDomains, AreFoundByUuid) {
  EXPECT_EQ(change({}, kUuid).value().domain, "test");
}

TEST_F(LibvirtDomains, ThatAreNotThereAreAnError) {
  const auto found = change({.add = {"web"}}, "web02");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().outcome, Outcome::unreachable);
  EXPECT_THAT(found.error().what, HasSubstr("no domain named web02"));
}

TEST_F(LibvirtDomains, WithMetadataOfOthersCanBeRepaired) {
  const auto domain = find_domain(connection_.get(), kUri, "test").value();
  const std::string long_one = "<groups>" + std::string(70'000, 'x') + "</groups>";
  ASSERT_EQ(virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT, long_one.c_str(), "x",
                                 kMetadataUri, VIR_DOMAIN_AFFECT_LIVE),
            0);
  EXPECT_FALSE(change({.add = {"web"}}));
  EXPECT_TRUE(change({.replace = true, .add = {"web"}}));
  EXPECT_THAT(groups(), ElementsAre("web"));
}

}  // namespace
}  // namespace vpatch

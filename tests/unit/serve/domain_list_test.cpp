// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/domain_list.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::serve {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Groups, AreThoseOfTheMetadata) {
  EXPECT_THAT(groups_of("").value(), IsEmpty());
  EXPECT_THAT(groups_of("<groups/>").value(), IsEmpty());
  EXPECT_THAT(groups_of("<groups>\n  <group>web</group>\n  <group> db </group>\n</groups>").value(),
              ElementsAre("web", "db"));
  EXPECT_THAT(groups_of("<v:groups xmlns:v='urn:vpatch:rollout'><v:group>web</v:group>"
                        "<v:other>x</v:other></v:groups>")
                  .value(),
              ElementsAre("web"));
  EXPECT_THAT(groups_of("<other><group>web</group></other>").value(), IsEmpty());
}

TEST(Groups, ArePrintableAndBounded) {
  EXPECT_THAT(groups_of("<groups><group>a&#27;b</group></groups>").value(), ElementsAre("a?b"));
  std::string many = "<groups>";
  for (int i = 0; i < 100; ++i) {
    many += "<group>" + std::string(200, 'g') + "</group>";
  }
  const auto groups = groups_of(many + "</groups>");
  ASSERT_TRUE(groups);
  EXPECT_EQ(groups->size(), 64U);
  EXPECT_EQ(groups->front().size(), 128U);
}

TEST(Groups, AreRefusedWhenTheyAreNoXml) {
  for (const std::string& text : {std::string("<groups>"), std::string("groups"),
                                  "<groups>" + std::string(70'000, ' ') + "</groups>"}) {
    EXPECT_FALSE(groups_of(text)) << text.substr(0, 20);
  }
}

// libvirt's test driver, which needs no daemon, has one domain that "runs".
TEST(ListDomains, ListsADomainWhoseKernelCannotBeRead) {
  const auto list = list_domains("test:///default", {});
  ASSERT_TRUE(list) << list.error().what;
  EXPECT_EQ(list->at("connection"), "test:///default");
  const auto& domains = list->at("domains").as_array();
  ASSERT_EQ(domains.size(), 1U);
  EXPECT_EQ(domains[0].at("name"), "test");
  EXPECT_EQ(domains[0].at("identity"), "6695eb01-f6a4-8304-79aa-97f2502e193f");
  EXPECT_EQ(domains[0].at("state"), "running");
  EXPECT_EQ(domains[0].at("running"), true);
  EXPECT_EQ(domains[0].at("groups").as_array().size(), 0U);
  EXPECT_TRUE(domains[0].at("release").is_null());
  EXPECT_TRUE(domains[0].at("build_id").is_null());
  EXPECT_TRUE(domains[0].at("unknown").is_string());
}

TEST(ListDomains, FailsWhereLibvirtIsNotThere) {
  const auto list = list_domains("qemu+unix:///system?socket=/nonexistent", {});
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().outcome, Outcome::unreachable);
}

}  // namespace
}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
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

TEST(Groups, AreBounded) {
  std::string many = "<groups>";
  for (int i = 0; i < 100; ++i) {
    many += "<group>g</group>";
  }
  EXPECT_EQ(groups_of(many + "</groups>").value().size(), 64U);
}

TEST(Groups, AreRefusedWhenTheyAreNoXml) {
  for (const std::string& text : {std::string("<groups>"), std::string("groups"),
                                  "<groups>" + std::string(70'000, ' ') + "</groups>"}) {
    EXPECT_FALSE(groups_of(text)) << text.substr(0, 20);
  }
}

TEST(Groups, AreReadBackAsTheyWereWritten) {
  const std::vector<std::string> groups = {"web", "a<b>&\"c", "db-1"};
  EXPECT_EQ(groups_of(metadata_of(groups)).value(), groups);
}

TEST(Groups, HaveNamesAsAPlanHasThem) {
  for (const char* name : {"web", "0", "a.b-c_d", "A9"}) {
    EXPECT_TRUE(is_group_name(name)) << name;
  }
  EXPECT_TRUE(is_group_name(std::string(128, 'a')));
  EXPECT_FALSE(is_group_name(std::string(129, 'a')));
  for (const char* name : {"", "-a", ".a", "_a", "a b", "a/b", "a,b", "\xc3\xa9", "a\n"}) {
    EXPECT_FALSE(is_group_name(name)) << name;
  }
}

TEST(GroupChange, AddsAndRemoves) {
  const std::vector<std::string> groups = {"web", "db"};
  EXPECT_THAT(changed(groups, {}).value(), ElementsAre("web", "db"));
  EXPECT_THAT(changed(groups, {.add = {"db", "new", "new"}}).value(),
              ElementsAre("web", "db", "new"));
  EXPECT_THAT(changed(groups, {.remove = {"web", "absent"}}).value(), ElementsAre("db"));
  EXPECT_THAT(changed(groups, {.remove = {"web"}, .add = {"web"}}).value(),
              ElementsAre("db", "web"));
  EXPECT_THAT(changed(groups, {.replace = true, .add = {"new"}}).value(), ElementsAre("new"));
  EXPECT_THAT(changed(groups, {.replace = true}).value(), IsEmpty());
}

TEST(GroupChange, KeepsADomainIn64AtMost) {
  GroupChange change;
  for (int i = 0; i < 64; ++i) {
    change.add.push_back("g" + std::to_string(i));
  }
  EXPECT_EQ(changed({}, change).value().size(), 64U);
  EXPECT_EQ(changed({"g0"}, change).value().size(), 64U);
  const auto one_more = changed({"web"}, change);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().outcome, Outcome::refused);
}

}  // namespace
}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/domain_look.h"

#include <string>

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace vpatch::exporter {
namespace {

namespace json = boost::json;

json::object patch(const std::string& name, const char* phase, const json::value& role) {
  return {{"name", name}, {"phase", phase}, {"role", role}, {"build_id", "beef"}};
}

json::object status(json::array patches) {
  return {{"schema", 1},
          {"patches", std::move(patches)},
          {"transition", nullptr},
          {"pending", json::object{{"count", 0}, {"tasks", json::array()}}},
          {"reboot_planned", false},
          {"tainted", 4096}};
}

DomainLook parse(const json::object& object) {
  const auto look = parse_status(json::serialize(object));
  EXPECT_TRUE(look) << look.error().what;
  return look.value_or(DomainLook());
}

TEST(DomainLook, IsOfWhatIsWhollyInForce) {
  const DomainLook look =
      parse(status({patch("one", "patched", "base"), patch("two", "patched", "addition"),
                    patch("three", "patched", nullptr), patch("four", "patching", "addition"),
                    patch("five", "unpatching", nullptr)}));
  ASSERT_EQ(look.in_force.size(), 3U);
  EXPECT_EQ(look.in_force[0].name, "one");
  EXPECT_EQ(look.in_force[0].role, "base");
  EXPECT_EQ(look.in_force[0].build_id, "beef");
  EXPECT_EQ(look.in_force[1].role, "addition");
  EXPECT_EQ(look.in_force[2].role, "none");
  EXPECT_EQ(look.tainted, 4096U);
}

TEST(DomainLook, TellsOfARunningTransition) {
  json::object running = status({});
  running["transition"] = json::object{{"patch", "one"}};
  running["pending"] = json::object{{"count", 7}, {"tasks", json::array()}};
  running["reboot_planned"] = true;
  const DomainLook look = parse(running);
  EXPECT_TRUE(look.transition_running);
  EXPECT_EQ(look.pending, 7U);
  EXPECT_TRUE(look.reboot_planned);
}

TEST(DomainLook, KnowsThatPendingTasksAreNotKnown) {
  json::object object = status({});
  object["pending"] = nullptr;
  EXPECT_FALSE(parse(object).pending);
}

TEST(DomainLook, IsBoundedWhateverTheGuestShows) {
  json::array many;
  for (int i = 0; i < 1000; ++i) {
    many.emplace_back(patch("patch" + std::to_string(i), "patched", nullptr));
  }
  EXPECT_EQ(parse(status(many)).in_force.size(), kMaxLivepatches);
}

TEST(DomainLook, HasANameOnce) {
  EXPECT_EQ(parse(status({patch("one", "patched", "base"), patch("one", "patched", "addition")}))
                .in_force.size(),
            1U);
}

TEST(DomainLook, MakesNamesPrintable) {
  std::string text = json::serialize(status({patch("a@b", "patched", nullptr)}));
  text.replace(text.find('@'), 1, "\xff\\u001b");
  const auto look = parse_status(text);
  ASSERT_TRUE(look) << look.error().what;
  EXPECT_EQ(look->in_force.at(0).name, "a??b");
}

TEST(DomainLook, IsNothingElse) {
  json::object without = status({});
  without.erase("reboot_planned");
  json::object wrong = status({});
  wrong["tainted"] = -1;
  for (const std::string& text :
       {std::string("no object"), std::string("[]"), std::string(), json::serialize(without),
        json::serialize(wrong), json::serialize(status({"text"}))}) {
    const auto look = parse_status(text);
    ASSERT_FALSE(look) << text;
    EXPECT_EQ(look.error().outcome, Outcome::internal);
  }
}

}  // namespace
}  // namespace vpatch::exporter

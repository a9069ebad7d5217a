// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/waves.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::rollout {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr Amount percent(std::uint32_t value) {
  return {value, Amount::Unit::percent};
}
constexpr Amount domains(std::uint32_t value) {
  return {value, Amount::Unit::domains};
}

Target target(std::size_t number, std::size_t connections = 1) {
  Target made;
  made.connection = fmt::format("qemu+ssh://host{}/system", number % connections);
  made.name = fmt::format("vm{}", number);
  made.identity = fmt::format("{:08x}-0000-4000-8000-000000000000", number);
  made.running = true;
  return made;
}

std::vector<Target> fleet(std::size_t size, std::size_t connections = 1) {
  std::vector<Target> targets;
  for (std::size_t i = 0; i < size; ++i) {
    targets.push_back(target(i, connections));
  }
  return targets;
}

std::vector<Selected> all_chosen(std::size_t size) {
  return std::vector<Selected>(size, Selected{Choice::chosen, 0, {}});
}

Plan plan_of(std::vector<Amount> amounts) {
  Plan plan;
  for (const Amount& amount : amounts) {
    plan.waves.push_back({amount, {}});
  }
  return plan;
}

std::vector<std::size_t> sizes(const Waves& waves) {
  std::vector<std::size_t> counted;
  for (const auto& wave : waves.waves) {
    counted.push_back(wave.size());
  }
  return counted;
}

TEST(Waves, TakeCountsAndPercentagesAndTheLastTheRest) {
  const auto targets = fleet(100);
  const auto waves =
      make_waves(plan_of({domains(5), percent(10), percent(10)}), targets, all_chosen(100), "s");
  EXPECT_THAT(sizes(waves.value()), ElementsAre(5, 10, 85));
}

TEST(Waves, TakePercentagesOfAllButTheCanaryRoundedUp) {
  auto plan = plan_of({percent(10), percent(100)});
  plan.canary = Canary{{}, domains(9)};
  const auto waves = make_waves(plan, fleet(100), all_chosen(100), "s");
  EXPECT_THAT(waves->canary, SizeIs(9));
  EXPECT_THAT(sizes(*waves), ElementsAre(10, 81));  // of 91
}

TEST(Waves, AreEmptyWhenTheDomainsAreUsedUp) {
  const auto waves =
      make_waves(plan_of({domains(2), domains(5), percent(100)}), fleet(3), all_chosen(3), "s");
  EXPECT_THAT(sizes(waves.value()), ElementsAre(2, 1, 0));
}

TEST(Waves, HoldOnlyWhatIsChosen) {
  auto selected = all_chosen(5);
  selected[0].choice = Choice::not_selected;
  selected[1].choice = Choice::duplicate;
  selected[2].choice = Choice::off;
  selected[3].choice = Choice::unmatched;
  const auto waves = make_waves(plan_of({percent(100)}), fleet(5), selected, "s");
  EXPECT_THAT(waves->waves, ElementsAre(ElementsAre(4)));
}

TEST(Waves, OfNothingAreEmpty) {
  auto plan = plan_of({percent(100)});
  plan.canary = Canary{{}, domains(1)};
  const auto waves = make_waves(plan, {}, {}, "s");
  ASSERT_TRUE(waves);
  EXPECT_THAT(waves->canary, IsEmpty());
  EXPECT_THAT(sizes(*waves), ElementsAre(0));
}

TEST(Waves, TakeTheCanaryByNamesAndGroups) {
  auto targets = fleet(10);
  targets[3].groups = {"canary"};
  auto plan = plan_of({percent(100)});
  plan.canary = Canary{{{}, {"vm[12]"}, {"canary"}, {}}};
  const auto waves = make_waves(plan, targets, all_chosen(10), "s");
  EXPECT_THAT(waves->canary, UnorderedElementsAre(1, 2, 3));
  EXPECT_THAT(waves->waves.at(0), UnorderedElementsAre(0, 4, 5, 6, 7, 8, 9));
}

TEST(Waves, AreRefusedWhenTheCanaryTakesNothing) {
  auto selected = all_chosen(3);
  selected[1].choice = Choice::off;
  auto plan = plan_of({percent(100)});
  plan.canary = Canary{{{}, {"vm1"}, {}, {}}};
  const auto waves = make_waves(plan, fleet(3), selected, "s");
  ASSERT_FALSE(waves);
  EXPECT_EQ(waves.error().outcome, Outcome::refused);
}

TEST(Waves, HaveAnOrderThatStaysTheSameOverVersions) {
  // sha256 of "rollout-1" NUL identity, as computed elsewhere: a driver of a newer version goes on
  // with it.
  const auto waves = make_waves(plan_of({percent(100)}), fleet(6), all_chosen(6), "rollout-1");
  EXPECT_THAT(waves->waves.at(0), ElementsAre(5, 2, 0, 1, 3, 4));
}

TEST(Waves, HaveAnotherOrderForAnotherSeed) {
  const auto targets = fleet(50);
  const auto plan = plan_of({percent(100)});
  EXPECT_NE(make_waves(plan, targets, all_chosen(50), "a")->waves,
            make_waves(plan, targets, all_chosen(50), "b")->waves);
}

/// A plan, a fleet and a selection, at random.
struct Example {
  explicit Example(unsigned seed) : random(seed) {
    const auto size = pick(0, 120);
    targets = fleet(size, pick(1, 7));
    std::ranges::shuffle(targets, random);
    for (std::size_t i = 0; i < size; ++i) {
      selected.push_back({static_cast<Choice>(pick(0, 4) == 0 ? pick(1, 4) : 0), {}, {}});
    }
    for (auto waves = pick(1, 6); waves > 0; --waves) {
      plan.waves.push_back({pick(0, 1) == 0 ? domains(pick(1, 40)) : percent(pick(1, 100)), {}});
    }
    if (pick(0, 1) == 0) {
      plan.canary = Canary{{}, pick(0, 1) == 0 ? domains(pick(1, 10)) : percent(pick(1, 30))};
    }
  }

  std::uint32_t pick(std::uint32_t least, std::uint32_t most) {
    return std::uniform_int_distribution(least, most)(random);
  }

  std::mt19937 random;
  Plan plan;
  std::vector<Target> targets;
  std::vector<Selected> selected;
};

/// The identities, in the order of canary and waves.
std::vector<std::vector<std::string>> identities(const Waves& waves,
                                                 const std::vector<Target>& targets) {
  auto parts = waves.waves;
  parts.insert(parts.begin(), waves.canary);
  std::vector<std::vector<std::string>> names;
  for (const auto& part : parts) {
    names.emplace_back();
    for (const std::size_t i : part) {
      names.back().push_back(targets.at(i).identity);
    }
  }
  return names;
}

TEST(WavesProperty, EachChosenDomainIsInOneWaveOrTheCanary) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    const Example example(seed);
    const auto waves = make_waves(example.plan, example.targets, example.selected, "s");
    ASSERT_TRUE(waves) << seed;
    ASSERT_EQ(waves->waves.size(), example.plan.waves.size()) << seed;
    std::vector<int> times(example.targets.size());
    for (const std::size_t i : waves->canary) {
      ++times.at(i);
    }
    for (const auto& wave : waves->waves) {
      for (const std::size_t i : wave) {
        ++times.at(i);
      }
    }
    for (std::size_t i = 0; i < times.size(); ++i) {
      ASSERT_EQ(times[i], example.selected[i].choice == Choice::chosen ? 1 : 0) << seed;
    }
  }
}

TEST(WavesProperty, EachWaveButTheLastHasItsAmountOrAllThatIsLeft) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    const Example example(seed);
    const auto waves = make_waves(example.plan, example.targets, example.selected, "s");
    const auto chosen = static_cast<std::uint64_t>(
        std::ranges::count(example.selected, Choice::chosen, &Selected::choice));
    ASSERT_EQ(waves->canary.size(),
              example.plan.canary ? example.plan.canary->amount->of(chosen) : 0);
    const auto all = chosen - waves->canary.size();
    auto left = all;
    for (std::size_t i = 0; i < waves->waves.size(); ++i) {
      const auto wanted = std::min(example.plan.waves[i].amount.of(all), left);
      ASSERT_EQ(waves->waves[i].size(), i + 1 == waves->waves.size() ? left : wanted) << seed;
      left -= waves->waves[i].size();
    }
  }
}

TEST(WavesProperty, TheOrderOfTheTargetsDoesNotMatter) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    Example example(seed);
    const auto before = make_waves(example.plan, example.targets, example.selected, "s");
    std::vector<std::size_t> order(example.targets.size());
    std::ranges::generate(order, [n = std::size_t{0}]() mutable { return n++; });
    std::ranges::shuffle(order, example.random);
    std::vector<Target> targets;
    std::vector<Selected> selected;
    for (const std::size_t i : order) {
      targets.push_back(example.targets[i]);
      selected.push_back(example.selected[i]);
    }
    const auto after = make_waves(example.plan, targets, selected, "s");
    ASSERT_EQ(identities(*before, example.targets), identities(*after, targets)) << seed;
  }
}

TEST(WavesProperty, NoWaveIsOfOneConnectionAlone) {
  constexpr std::size_t kConnections = 10;
  const auto targets = fleet(1000, kConnections);
  for (const char* seed : {"a", "b", "c", "d"}) {
    const auto waves = make_waves(plan_of({percent(10), percent(20), percent(100)}), targets,
                                  all_chosen(1000), seed);
    for (const auto& wave : waves->waves) {
      std::map<std::string, std::size_t> shares;
      for (const std::size_t i : wave) {
        ++shares[targets[i].connection];
      }
      EXPECT_THAT(shares, SizeIs(kConnections)) << seed;
      for (const auto& [connection, share] : shares) {
        EXPECT_LT(share, wave.size() * 3 / kConnections) << seed << " " << connection;
      }
    }
  }
}

}  // namespace
}  // namespace vpatch::rollout

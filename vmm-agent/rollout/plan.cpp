// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/plan.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "vmm-agent/duration.h"
#include "vmm-agent/rollout/apply_options.h"
#include "vmm-agent/rollout/selection.h"
#include "vmm-agent/rollout/yaml_reader.h"

namespace vpatch::rollout {
namespace {

using namespace std::chrono_literals;
using YAML::Node;

constexpr std::size_t kMostNames = 10'000;
constexpr std::size_t kMostFiles = 1000;
constexpr std::size_t kMostWaves = 100;
constexpr std::size_t kMostChecks = 32;
constexpr std::size_t kMostArguments = 256;
constexpr std::size_t kLongestText = 256;
constexpr std::size_t kLongestPath = 4096;
constexpr std::uint32_t kMostDomains = 1'000'000;
constexpr std::chrono::seconds kMonth = 720h;

class PlanReader {
 public:
  explicit PlanReader(const std::filesystem::path& folder) : folder_(&folder) {}

  Result<Plan> read(const Node& root);
  YamlReader& reader() { return reader_; }

 private:
  void read_file(const Node& node);
  void read_domains(const Node& node);
  void read_canary(const Node& node);
  void read_wave(const Node& node);
  void read_limits(const Node& node);
  void read_check(const Node& node);
  void read_window(const Node& node);
  void check_times(const Node& root);

  std::vector<std::string> read_globs(const Node& node);
  std::vector<std::string> read_texts(const Node& node, std::size_t most);
  std::vector<std::string> read_command(const Node& node);
  Amount read_amount(const Node& node, std::uint32_t least);
  std::chrono::minutes read_time_of_day(const Node& node);

  /// Refuses `what` when `values` hold it.
  void insert(std::set<std::string>& values, const std::string& value, const Node& at) {
    if (!values.insert(value).second) {
      reader_.refuse(at, value + " is there twice");
    }
  }

  YamlReader reader_;
  const std::filesystem::path* folder_;
  Plan plan_;
  std::set<std::string> kernels_, checks_;
};

std::vector<std::string> PlanReader::read_texts(const Node& node, std::size_t most) {
  std::vector<std::string> texts;
  std::set<std::string> seen;
  reader_.list(node, most, [&](const Node& one) {
    texts.push_back(reader_.text(one, kLongestText));
    insert(seen, texts.back(), one);
  });
  return texts;
}

std::vector<std::string> PlanReader::read_globs(const Node& node) {
  auto globs = read_texts(node, kMostNames);
  std::size_t count = 0;
  for (const std::string& glob : globs) {
    if (const auto checked = check_glob(glob); !checked) {
      reader_.refuse(node, checked.error().what);
    }
    if (is_glob(glob) && ++count > kMostGlobs) {
      reader_.refuse(node, fmt::format("more than {} globs", kMostGlobs));
    }
  }
  return globs;
}

Amount PlanReader::read_amount(const Node& node, std::uint32_t least) {
  const std::string text = reader_.text(node, kLongestText);
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  const std::string_view unit(rest, end);
  const bool percent = unit == "%";
  if (failure != std::errc() || (!percent && !unit.empty()) || value < least ||
      value > (percent ? 100 : kMostDomains)) {
    reader_.refuse(node, fmt::format("{} is neither a number of domains from {} to {}, such as 5, "
                                     "nor a part of them from {}% to 100%",
                                     text, least, kMostDomains, least));
  }
  return {value, percent ? Amount::Unit::percent : Amount::Unit::domains};
}

void PlanReader::read_file(const Node& node) {
  PlannedFile planned;
  reader_.map(node, {{"kernel",
                      [&](const Node& value) {
                        planned.kernel = reader_.text(value, kLongestText);
                        insert(kernels_, planned.kernel, value);
                      },
                      true},
                     {"file",
                      [&](const Node& value) {
                        planned.file =
                            (*folder_ / reader_.text(value, kLongestPath)).lexically_normal();
                        const std::string& path = planned.file.native();
                        if (path.size() > kLongestPath || !is_plain_text(path)) {
                          reader_.refuse(
                              value, fmt::format("with the plan's folder the path must be UTF-8 of "
                                                 "up to {} bytes, without control characters",
                                                 kLongestPath));
                        }
                      },
                      true}});
  plan_.files.push_back(std::move(planned));
}

void PlanReader::read_domains(const Node& node) {
  Selection& selection = plan_.selection;
  reader_.map(node, {{"names", [&](const Node& value) { selection.names = read_globs(value); }},
                     {"groups",
                      [&](const Node& value) { selection.groups = read_texts(value, kMostNames); }},
                     {"except", [&](const Node& value) { selection.except = read_globs(value); }}});
}

void PlanReader::read_canary(const Node& node) {
  Canary canary;
  reader_.map(
      node, {{"names", [&](const Node& value) { canary.domains.names = read_globs(value); }},
             {"groups",
              [&](const Node& value) { canary.domains.groups = read_texts(value, kMostNames); }},
             {"amount", [&](const Node& value) { canary.amount = read_amount(value, 1); }},
             {"soak", [&](const Node& value) { canary.soak = reader_.whole(value, 0s, kMonth); }}});
  const bool named = !canary.domains.names.empty() || !canary.domains.groups.empty();
  if (named == canary.amount.has_value()) {
    reader_.refuse(node, "a canary must have either names and groups, or an amount");
  }
  plan_.canary = std::move(canary);
}

void PlanReader::read_wave(const Node& node) {
  std::uint32_t percent = 0;
  for (const Wave& before : plan_.waves) {
    percent += before.amount.unit == Amount::Unit::percent ? before.amount.value : 0;
  }
  if (percent >= 100) {
    reader_.refuse(node,
                   "the waves before this one take 100% already; an amount is of all domains but "
                   "the canary, and not added up");
  }
  Wave wave;
  reader_.map(node,
              {{"amount", [&](const Node& value) { wave.amount = read_amount(value, 1); }},
               {"soak", [&](const Node& value) { wave.soak = reader_.whole(value, 0s, kMonth); }}});
  plan_.waves.push_back(wave);
}

void PlanReader::read_limits(const Node& node) {
  constexpr std::uint32_t kMostParallel = 10'000;
  Limits& limits = plan_.limits;
  reader_.map(
      node,
      {{"parallel",
        [&](const Node& value) { limits.parallel = reader_.number(value, 1, kMostParallel); }},
       {"parallel_per_connection",
        [&](const Node& value) {
          limits.parallel_per_connection = reader_.number(value, 1, kMostParallel);
        }},
       {"budget", [&](const Node& value) { limits.budget = read_amount(value, 0); }},
       {"per_domain",
        [&](const Node& value) {
          limits.per_domain = reader_.whole<std::chrono::seconds>(value, 1s, 24h);
        }},
       {"progress",
        [&](const Node& value) { limits.progress = reader_.whole(value, 1s, kMonth); }}});
}

/// A program and its arguments, which may be empty and of several lines.
std::vector<std::string> PlanReader::read_command(const Node& node) {
  std::vector<std::string> words;
  reader_.list(node, kMostArguments, [&](const Node& one) {
    std::string shown = one.Scalar();
    std::ranges::replace_if(shown, [](char c) { return c == '\n' || c == '\t'; }, ' ');
    if (!one.IsScalar() || shown.size() > kLongestPath || !is_plain_text(shown)) {
      reader_.refuse(one, fmt::format("it must be UTF-8 of up to {} bytes, without control "
                                      "characters but tabs and newlines, and noncharacters",
                                      kLongestPath));
    }
    words.push_back(one.Scalar());
  });
  if (!words.empty() && words.front().empty()) {
    reader_.refuse(node, "the first word must be a program");
  }
  return words;
}

void PlanReader::read_check(const Node& node) {
  HealthCommand check;
  reader_.map(node,
              {{"name",
                [&](const Node& value) {
                  check.name = reader_.identifier(value);
                  insert(checks_, check.name, value);
                },
                true},
               {"command", [&](const Node& value) { check.argv = read_command(value); }, true},
               {"where",
                [&](const Node& value) {
                  check.in_guest = reader_.choice<bool>(value, {{"host", false}, {"guest", true}});
                }},
               {"timeout", [&](const Node& value) {
                  check.timeout = reader_.whole<std::chrono::seconds>(value, 1s, 1h);
                }}});
  plan_.checks.push_back(std::move(check));
}

std::chrono::minutes PlanReader::read_time_of_day(const Node& node) {
  const std::string text = reader_.text(node, kLongestText);
  const auto digits = [&](std::size_t at, int most) {
    const char tens = text[at], ones = text[at + 1];
    const bool fits = tens >= '0' && tens <= '9' && ones >= '0' && ones <= '9';
    const int value = (tens - '0') * 10 + (ones - '0');
    return fits && value <= most ? value : -1;
  };
  const bool shape = text.size() == 5 && text[2] == ':';
  const int hour = shape ? digits(0, 23) : -1;
  const int minute = shape ? digits(3, 59) : -1;
  if (hour < 0 || minute < 0) {
    reader_.refuse(node, text + " is not a time of day from 00:00 to 23:59");
  }
  return std::chrono::hours(hour) + std::chrono::minutes(minute);
}

void PlanReader::read_window(const Node& node) {
  MaintenanceWindow window;
  window.days.set();
  const auto read_days = [&](const Node& days) {
    window.days.reset();
    reader_.list(days, window.days.size(), [&](const Node& one) {
      const auto day = reader_.choice<std::size_t>(
          one,
          {{"sun", 0}, {"mon", 1}, {"tue", 2}, {"wed", 3}, {"thu", 4}, {"fri", 5}, {"sat", 6}});
      if (window.days[day]) {
        reader_.refuse(one, one.Scalar() + " is there twice");
      }
      window.days.set(day);
    });
  };
  const auto read_zone = [&](const Node& value) {
    window.zone = reader_.text(value, kLongestText);
    if (const auto checked = check_zone(window.zone); !checked) {
      reader_.refuse(value, checked.error().what);
    }
  };
  reader_.map(node,
              {{"days", read_days},
               {"from", [&](const Node& value) { window.from = read_time_of_day(value); }, true},
               {"to", [&](const Node& value) { window.to = read_time_of_day(value); }, true},
               {"zone", read_zone},
               {"cutoff", [&](const Node& value) {
                  window.cutoff = reader_.whole<std::chrono::minutes>(value, 0min, 24h);
                }}});
  if (window.cutoff >= window.length()) {
    reader_.refuse(node,
                   fmt::format("a cutoff of {} leaves nothing of the window; it must be "
                               "shorter than {}",
                               format_duration(window.cutoff), format_duration(window.length())));
  }
  plan_.window = std::move(window);
}

/// What is under the key, or `map` itself.
Node place_of(const Node& map, const std::string& key) {
  return map.IsMap() && map[key].IsDefined() ? map[key] : map;
}

/// What times say of each other.
void PlanReader::check_times(const Node& root) {
  const Limits& limits = plan_.limits;
  if (limits.progress <= limits.per_domain + plan_.healthy_for) {
    reader_.refuse(place_of(root, "limits"),
                   fmt::format("limits.progress ({}) must be longer than limits.per_domain "
                               "({}) and healthy_for ({}) together",
                               format_duration(limits.progress), format_duration(limits.per_domain),
                               format_duration(plan_.healthy_for)));
  }
  const auto asked = time_asked_for(plan_.apply_options);
  if (asked >= limits.per_domain) {
    reader_.refuse(place_of(root, "apply"),
                   fmt::format("timeout, grace, when-clear and settle of apply ({} together) "
                               "must be shorter than limits.per_domain ({})",
                               format_duration(asked), format_duration(limits.per_domain)));
  }
}

Result<Plan> PlanReader::read(const Node& root) {
  const auto each = [this](std::size_t most, void (PlanReader::*read_one)(const Node&)) {
    return [this, most, read_one](const Node& list) {
      reader_.list(list, most, std::bind_front(read_one, this));
    };
  };
  const auto with = [this](void (PlanReader::*read_map)(const Node&)) {
    return std::bind_front(read_map, this);
  };
  reader_.map(
      root,
      {{"name", [&](const Node& value) { plan_.name = reader_.identifier(value); }, true},
       {"files", each(kMostFiles, &PlanReader::read_file), true},
       {"connections",
        [&](const Node& value) { plan_.selection.connections = read_texts(value, kMostNames); },
        true},
       {"domains", with(&PlanReader::read_domains)},
       {"canary", with(&PlanReader::read_canary)},
       {"waves", each(kMostWaves, &PlanReader::read_wave)},
       {"limits", with(&PlanReader::read_limits)},
       {"healthy_for",
        [&](const Node& value) {
          plan_.healthy_for = reader_.whole<std::chrono::seconds>(value, 0s, 24h);
        }},
       {"checks", each(kMostChecks, &PlanReader::read_check)},
       {"on_failure",
        [&](const Node& value) {
          plan_.on_failure = reader_.choice<OnFailure>(value, {{"pause", OnFailure::pause},
                                                               {"abort", OnFailure::abort},
                                                               {"rollback", OnFailure::rollback}});
        }},
       {"on_overlap",
        [&](const Node& value) {
          plan_.on_overlap = reader_.choice<OnOverlap>(
              value, {{"refuse", OnOverlap::refuse}, {"queue", OnOverlap::queue}});
        }},
       {"window", with(&PlanReader::read_window)},
       {"persist", [&](const Node& value) { plan_.persist = reader_.boolean(value); }},
       {"apply",
        [&](const Node& value) { plan_.apply_options = read_apply_options(reader_, value); }}});
  check_times(root);
  if (const auto& error = reader_.error()) {
    return std::unexpected(*error);
  }
  if (plan_.waves.empty()) {
    plan_.waves.emplace_back();
  }
  return std::move(plan_);
}

/// Throws what yaml-cpp throws.
Result<Plan> parse(std::string_view yaml, const std::filesystem::path& folder) {
  PlanReader plan(folder);
  YamlReader& reader = plan.reader();
  const Node root = reader.document(std::string(yaml));
  if (const auto& error = reader.error()) {
    return std::unexpected(*error);
  }
  return plan.read(root);
}

}  // namespace

std::uint64_t Amount::of(std::uint64_t all) const {
  if (unit == Unit::domains) {
    return std::min<std::uint64_t>(value, all);
  }
  // In two parts, since all * value might not fit.
  return std::min(all / 100 * value + (all % 100 * value + 99) / 100, all);
}

Result<Plan> parse_plan(std::string_view yaml, const std::filesystem::path& folder) {
  if (yaml.size() > kLongestPlan) {
    return fail(Outcome::usage, fmt::format("the plan is longer than {} bytes", kLongestPlan));
  }
  try {
    auto plan = parse(yaml, folder);
    if (plan && to_yaml(*plan).size() > kLongestPlan) {
      return fail(Outcome::usage,
                  fmt::format("the plan is longer than {} bytes as it is recorded, without aliases",
                              kLongestPlan));
    }
    return plan;
  } catch (const YAML::Exception& error) {
    YamlReader reader;
    reader.refuse(error.mark, "no YAML: " + error.msg);
    return std::unexpected(reader.error().value_or(Error{}));
  }
}

}  // namespace vpatch::rollout

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/rollout_record.h"

#include <array>

#include "vmm-agent/rollout/words.h"

namespace vpatch::rollout {
namespace {

constexpr std::array<std::string_view, 3> kCourseWords = {"forward", "aborted", "back"};
constexpr std::array<std::string_view, 7> kCauseWords = {
    "none", "command", "budget", "canary", "canary-unproven", "inconclusive", "no-progress"};

}  // namespace

std::string_view to_string(Course course) {
  return kCourseWords.at(static_cast<std::size_t>(course));
}

std::optional<Course> parse_course(std::string_view word) {
  return parse_word<Course>(kCourseWords, word);
}

std::string_view to_string(Cause cause) {
  return kCauseWords.at(static_cast<std::size_t>(cause));
}

std::optional<Cause> parse_cause(std::string_view word) {
  return parse_word<Cause>(kCauseWords, word);
}

}  // namespace vpatch::rollout

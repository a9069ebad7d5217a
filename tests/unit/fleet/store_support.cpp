// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/fleet/store_support.h"

#include <fmt/format.h>

namespace vpatch::fleet {

NewRollout some_rollout(const std::string& name, std::size_t domains) {
  NewRollout rollout{.name = name,
                     .plan = "name: fix\nfiles: []\n",
                     .seed = "0123",
                     .vpatch_version = "0.1.0",
                     .files = {{.path = "/root/fix.ko",
                                .sha256 = std::string(64, 'a'),
                                .patch = "fix_pipe",
                                .build_id = std::string(40, 'b'),
                                .release = "6.1.0-56-cloud-amd64"}}};
  for (std::size_t number = 0; number < domains; ++number) {
    rollout.domains.push_back({.connection = "qemu+ssh://root@host1/system",
                               .name = fmt::format("web{}", number),
                               .identity = fmt::format("e5f7a0a2-0000-0000-0000-{:012}", number),
                               .release = "6.1.0-56-cloud-amd64",
                               .wave = static_cast<std::uint32_t>(number),
                               .file = 0});
  }
  return rollout;
}

rollout::DomainRecord some_record(rollout::DomainState state) {
  return {.state = state,
          .before = rollout::DomainState::reverting,
          .touched = true,
          .failure = true,
          .attempts = 3,
          .order = 4'000'000'000,
          .outcome = Outcome::unrecorded,
          .text = "it was cut off",
          .since = rollout::Time(std::chrono::seconds(1'800'000'000))};
}

boost::json::object some_report() {
  return {{"schema", 1},    {"verb", "apply"},       {"outcome", "done"},
          {"exit_code", 0}, {"summary", "in force"}, {"elapsed_ms", 1234},
          {"hint", ""},     {"transition", nullptr}};
}

std::string hostile_text() {
  using namespace std::string_literals;
  return "it's \"x\"); DROP TABLE rollout; --\n\\u0000 \x1b[2J\0after a NUL \xff\xfe"s;
}

}  // namespace vpatch::fleet

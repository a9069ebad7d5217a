// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/domain_look.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/serve/protocol.h"

namespace vpatch::exporter {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxName = 64;  ///< of a module the kernel takes 55

std::string text_of(const json::value& value) {
  const json::string& text = value.as_string();
  return serve::printable({text.data(), text.size()}, kMaxName);
}

std::vector<LivepatchInForce> in_force(const json::array& patches) {
  std::vector<LivepatchInForce> found;
  for (const json::value& patch : patches) {
    if (found.size() == kMaxLivepatches) {
      break;
    }
    const json::object& fields = patch.as_object();
    if (fields.at("phase").as_string() != "patched") {
      continue;
    }
    const json::value& role = fields.at("role");
    LivepatchInForce one{text_of(fields.at("name")), role.is_null() ? "none" : text_of(role),
                         text_of(fields.at("build_id"))};
    // One name twice would be one series twice, and Prometheus refuses the page.
    if (std::ranges::find(found, one.name, &LivepatchInForce::name) == found.end()) {
      found.push_back(std::move(one));
    }
  }
  return found;
}

}  // namespace

Result<DomainLook> parse_status(std::string_view text) try {
  json::parse_options how;
  how.allow_invalid_utf8 = true;  // names in a guest may be any bytes
  const json::value value = json::parse({text.data(), text.size()}, {}, how);
  const json::object& status = value.as_object();
  DomainLook look;
  look.in_force = in_force(status.at("patches").as_array());
  look.transition_running = !status.at("transition").is_null();
  const json::value& pending = status.at("pending");
  if (!pending.is_null()) {
    look.pending = pending.as_object().at("count").to_number<std::uint64_t>();
  }
  look.reboot_planned = status.at("reboot_planned").as_bool();
  look.tainted = status.at("tainted").to_number<std::uint64_t>();
  return look;
} catch (const std::exception& error) {
  return fail(Outcome::internal, fmt::format("no status of a guest: {}", error.what()));
}

}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
// What a verb on a host of the fleet printed, taken apart. The host is not trusted: what is missing
// or wrong is as if it was not known.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/serve/client.h"

namespace vpatch::fleet {

/// How a request about a domain ended.
struct VerbAnswer {
  Outcome outcome = Outcome::internal;
  std::string text{};            ///< one line
  boost::json::object report{};  ///< what the verb printed; empty when nothing

  bool done() const { return outcome == Outcome::done || outcome == Outcome::unrecorded; }
};

VerbAnswer answer_of(serve::Client::Reply reply);

/// Whether the report of a verb has a finding with that id.
bool has_finding(const boost::json::object& report, std::string_view id);

/// Of an apply or a revert: unreachable, too, where its end was not seen. A look is to settle it.
Outcome outcome_of_change(const VerbAnswer& answer);

/// What `health` saw of a guest.
struct GuestLook {
  struct Patch {
    std::string name, build_id;
    bool in_force = false;  ///< and no transition of it runs
  };
  rollout::HealthVerdict::Health health = rollout::HealthVerdict::Health::inconclusive;
  std::string text{};
  bool off = false;   ///< the domain does not run
  bool held = false;  ///< it is paused, by whomever: nothing can be done in it
  bool read = false;  ///< its memory was read: `patches` is what it has
  std::vector<Patch> patches{};
  bool busy = false;  ///< a transition runs, or an operation of vpatch
  HealthMark mark{};  ///< of this look
};

GuestLook guest_of(const VerbAnswer& answer);

/// Tolerant members of an untrusted object: empty, 0 or false where there is none of that type.
std::string text_member(const boost::json::object& object, std::string_view key);
std::uint64_t number_member(const boost::json::object& object, std::string_view key);
bool flag_member(const boost::json::object& object, std::string_view key);
const boost::json::array& array_member(const boost::json::object& object, std::string_view key);

}  // namespace vpatch::fleet

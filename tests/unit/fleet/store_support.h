// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::fleet {

/// A folder of its own with a journal, and a store of rollouts in it.
class RolloutStoreTest : public JournalTest {
 protected:
  RolloutStore open_store() const { return RolloutStore::open(file()).value(); }

  RolloutStore store_ = open_store();
};

/// One file, and the domains web0, web1, ...: all wait.
NewRollout some_rollout(const std::string& name = "fix", std::size_t domains = 3);

/// A record with a value other than the default's in each field.
rollout::DomainRecord some_record(rollout::DomainState state);

/// A report such as apply's.
boost::json::object some_report();

/// Bytes that mean something to SQL, C and JSON, or are no text at all.
std::string hostile_text();

}  // namespace vpatch::fleet

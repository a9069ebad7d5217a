// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "introspect/guest/boot_facts.h"

namespace vpatch {

/// The form in which boot facts are kept: one JSON object. Parsing returns nothing for a text that
/// is malformed, of another version, or over a cap of 4 MiB; it never trusts what it finds, since
/// GuestKernel::attach() verifies it against the guest.
std::string to_text(const introspect::BootFacts& facts);
std::optional<introspect::BootFacts> parse_boot_facts(std::string_view text);

/// Keeps what was learned of each VM's boot between commands: one file a VM in a private folder,
/// $VPATCH_BOOT_CACHE, or /var/cache/vpatch for root, or $XDG_CACHE_HOME/vpatch, ~/.cache/vpatch.
/// It is only a cache: a file that cannot be read or written costs time, never a result.
class BootCache {
 public:
  BootCache();
  explicit BootCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// `identity` is Domain::identity().
  std::optional<introspect::BootFacts> load(const std::string& identity) const;
  /// Replaces the file in one step.
  void save(const std::string& identity, const introspect::BootFacts& facts) const;

 private:
  std::filesystem::path file(const std::string& identity) const;

  std::filesystem::path folder_;
};

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// Which domains a plan takes, and which file each gets. Plain values in and out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/plan.h"

namespace vpatch::rollout {

/// A domain as its connection shows it.
struct Target {
  std::string connection;           ///< as the plan names it
  std::string name;                 ///< libvirt's
  std::string identity;             ///< its UUID: the same on every connection
  std::vector<std::string> groups;  ///< of vpatch's metadata
  std::string kernel_release;       ///< uname -r; empty when not known
  std::string build_id;             ///< lower-case hexadecimal; empty when not known
  bool running = false;
};

enum class Choice : std::uint8_t {
  chosen,        ///< it gets its file
  not_selected,  ///< the plan does not take it
  duplicate,     ///< another connection shows the same domain
  off,           ///< it does not run; `vpatch ensure` is for it
  unmatched,     ///< the plan has no file for its kernel, or its kernel is not known
};

/// What becomes of one target.
struct Selected {
  Choice choice = Choice::not_selected;
  std::optional<std::size_t> file{};  ///< of Plan::files, when it is chosen
  std::string why{};                  ///< one line, for a duplicate, off and unmatched
};

/// Whether a glob of a plan is one: 1 to 256 bytes, at most 8 stars, as fnmatch(3) takes it.
/// Outcome::usage.
Result<void> check_glob(std::string_view glob);

/// The most globs of one list; plain names are not counted.
inline constexpr std::size_t kMostGlobs = 256;

/// Whether the name holds one of * ? [ \.
bool is_glob(std::string_view name);

/// A Selection made ready for many targets: plain names are looked up, only globs are tried one by
/// one. A target's name longer than 4096 bytes matches no glob.
class Matcher {
 public:
  explicit Matcher(const Selection& selection);

  bool matches(const Target& target) const;

 private:
  class Names {
   public:
    explicit Names(const std::vector<std::string>& names);
    bool match(const std::string& name) const;

   private:
    std::unordered_set<std::string> plain_;
    std::vector<std::string> globs_;
  };

  std::unordered_set<std::string> connections_, groups_;
  Names names_, except_;
  bool all_;
};

/// One for each target, in their order. A build id goes before a release, since a release may name
/// several builds. Of a domain that several connections show, the one that runs is taken (a
/// migrated domain may still be defined where it came from); where none or several do, which is
/// meant is not known, and each is a duplicate.
std::vector<Selected> select(const Plan& plan, std::span<const Target> targets);

}  // namespace vpatch::rollout

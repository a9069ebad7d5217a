// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/waves.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include <openssl/evp.h>
#include <openssl/sha.h>

namespace vpatch::rollout {
namespace {

using Digest = std::array<std::uint8_t, SHA256_DIGEST_LENGTH>;

Result<Digest> digest_of(std::string_view seed, std::string_view identity) {
  // A NUL between them, so that no other seed and identity make the same text.
  std::string text(seed);
  text.push_back('\0');
  text += identity;
  Digest digest{};
  if (EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    return fail(Outcome::internal, "OpenSSL computes no SHA-256");
  }
  return digest;
}

struct Ranked {
  Digest digest;
  std::size_t target = 0;
};

/// The chosen targets in their order.
Result<std::vector<std::size_t>> in_order(std::span<const Target> targets,
                                          std::span<const Selected> selected,
                                          std::string_view seed) {
  std::vector<Ranked> ranked;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (selected[i].choice != Choice::chosen) {
      continue;
    }
    const auto digest = digest_of(seed, targets[i].identity);
    if (!digest) {
      return std::unexpected(digest.error());
    }
    ranked.push_back({*digest, i});
  }
  std::ranges::sort(ranked, {}, &Ranked::digest);  // select() has left each identity once
  std::vector<std::size_t> order;
  order.reserve(ranked.size());
  for (const Ranked& one : ranked) {
    order.push_back(one.target);
  }
  return order;
}

/// Takes the canary's out of `order`.
std::vector<std::size_t> take_canary(const Canary& canary, std::span<const Target> targets,
                                     std::vector<std::size_t>& order) {
  const Matcher matcher(canary.domains);
  const std::uint64_t first = canary.amount ? canary.amount->of(order.size()) : 0;
  std::vector<std::size_t> taken;
  std::vector<std::size_t> left;
  for (const std::size_t i : order) {
    const bool takes = canary.amount ? taken.size() < first : matcher.matches(targets[i]);
    (takes ? taken : left).push_back(i);
  }
  order = std::move(left);
  return taken;
}

}  // namespace

Result<Waves> make_waves(const Plan& plan, std::span<const Target> targets,
                         std::span<const Selected> selected, std::string_view seed) {
  auto order = in_order(targets, selected, seed);
  if (!order) {
    return std::unexpected(std::move(order.error()));
  }
  Waves waves;
  if (plan.canary && !order->empty()) {
    waves.canary = take_canary(*plan.canary, targets, *order);
    if (waves.canary.empty()) {
      return fail(Outcome::refused, "the canary takes none of the domains of this rollout",
                  "Name domains that run and for whose kernel there is a file, or an amount.");
    }
  }
  auto begin = order->begin();
  for (std::size_t i = 0; i < plan.waves.size(); ++i) {
    const auto left = order->end() - begin;
    const auto wanted = static_cast<std::ptrdiff_t>(plan.waves[i].amount.of(order->size()));
    const auto end = begin + (i + 1 == plan.waves.size() ? left : std::min(wanted, left));
    waves.waves.emplace_back(begin, end);
    begin = end;
  }
  return waves;
}

}  // namespace vpatch::rollout

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Introspection by guest memory. `view` must outlive it.
class MemoryIntrospection final : public Introspection {
 public:
  explicit MemoryIntrospection(GuestView& view) : view_(view) {}

  Result<Forecast> forecast(const LivepatchFile& file, const qmp::CallOptions& options) override;
  Result<GuestMark> mark(const qmp::CallOptions& options) override;
  Result<std::vector<std::string>> problems(const LivepatchFile& file, const GuestMark& before,
                                            const qmp::CallOptions& options) override;

 private:
  GuestView& view_;
};

}  // namespace vpatch

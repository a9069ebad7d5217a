// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Introspection by guest memory. `view` must outlive it.
class MemoryIntrospection final : public Introspection {
 public:
  explicit MemoryIntrospection(GuestView& view) : view_(view) {}

  GuestFacts facts(const LivepatchFile& file, const qmp::CallOptions& options) override;
  Result<Forecast> forecast(const LivepatchFile& file, const qmp::CallOptions& options) override;
  Result<GuestMark> mark(const qmp::CallOptions& options) override;
  Result<std::vector<std::string>> problems(const std::string& patch, const GuestMark& before,
                                            const qmp::CallOptions& options) override;
  Result<Leftovers> leftovers(const std::vector<std::string>& gone,
                              const std::vector<std::string>& unloaded, const GuestMark& before,
                              const qmp::CallOptions& options) override;
  Result<std::vector<ForcedPatch>> forced(const qmp::CallOptions& options) override;
  Result<std::vector<introspect::ForbiddenFunction>> locate(
      const std::vector<std::string>& functions, const qmp::CallOptions& options) override;
  Result<Forecast> occupants(const std::vector<introspect::ForbiddenFunction>& functions,
                             const qmp::CallOptions& options) override;
  Result<PendingTasks> pending(const qmp::CallOptions& options) override;

 private:
  GuestView& view_;
};

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "introspect/guest/guest_kernel.h"
#include "introspect/stacks/unwinder.h"
#include "introspect/symbols/module_symbols.h"

namespace vpatch::introspect {

/// A code address as the kernel prints it in its own stack traces.
struct Place {
  std::string function;
  std::uint64_t offset = 0;  ///< bytes after its start
  std::uint64_t size = 0;    ///< of the function, bytes
  std::string module;        ///< empty for the core kernel

  /// "function+0x1/0x2 [module]"
  std::string text() const;

  friend bool operator==(const Place&, const Place&) = default;
};

/// Names code addresses of the kernel and of the modules loaded at one look. A module's symbols are
/// read when first needed; answers are remembered (a bounded number). One thread at a time;
/// `kernel` must outlive it.
class Symbolizer {
 public:
  Symbolizer(const GuestKernel& kernel, std::vector<Module> modules);

  /// Where a frame is; a return address counts for the call before it (%pB of the kernel). Nothing
  /// outside of known code.
  std::optional<Place> place(const Frame& frame) const;

  /// Whether the kernel leaves the address out of /proc/PID/stack as the scheduler's own.
  bool in_scheduler(GuestVirtAddr address) const;

  /// All symbols of that name in `object` ("vmlinux" or a module), in the order of livepatch's
  /// sympos. Errc::not_found when the module is not loaded.
  Result<std::vector<Symbol>> named(std::string_view object, std::string_view name) const;
  /// The same for each of `names`, at most `max` symbols of each; quicker than one by one.
  Result<std::vector<std::vector<Symbol>>> all_named(std::string_view object,
                                                     std::span<const std::string_view> names,
                                                     std::size_t max) const;

  std::span<const Module> modules() const { return modules_; }

 private:
  const ModuleSymbols* symbols_of(std::size_t module) const;
  const Result<std::reference_wrapper<const Kallsyms>>& kallsyms() const;
  std::optional<Place> look_up(GuestVirtAddr address) const;

  const GuestKernel* kernel_;
  std::vector<Module> modules_;
  VirtRange scheduler_text_;
  /// Asked for once: where they cannot be read, trying again for each address takes too long.
  mutable std::optional<Result<std::reference_wrapper<const Kallsyms>>> kallsyms_;
  // Of all modules together; distribution kernels with everything loaded have some 300,000.
  mutable std::uint64_t symbols_left_ = 2'000'000;
  mutable std::vector<std::unique_ptr<const Result<ModuleSymbols>>> module_symbols_;
  mutable std::unordered_map<std::uint64_t, std::optional<Place>> known_;
};

}  // namespace vpatch::introspect

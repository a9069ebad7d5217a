// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/named_frames.h"

#include <utility>

#include <fmt/format.h>

namespace vpatch {

std::vector<NamedFrame> name_frames(const introspect::TaskStack& stack,
                                    const introspect::Symbolizer& symbols, bool scheduler_frames) {
  std::vector<NamedFrame> frames;
  for (const introspect::Frame& frame : stack.trace.frames) {
    if (!scheduler_frames && symbols.in_scheduler(frame.address)) {
      continue;
    }
    NamedFrame named;
    named.address = frame.address.value();
    named.exact = frame.exact;
    if (auto place = symbols.place(frame)) {
      named.text = place->text();
      named.function = std::move(place->function);
      named.module = std::move(place->module);
      named.offset = place->offset;
      named.size = place->size;
    } else {
      named.text = fmt::format("{:#x}", named.address);
    }
    frames.push_back(std::move(named));
  }
  return frames;
}

std::string describe(const introspect::Blocker& blocker, const introspect::TaskStack& stack,
                     const std::vector<introspect::ForbiddenFunction>& forbidden) {
  switch (blocker.reason) {
    case introspect::BlockReason::on_stack: {
      const auto& function = forbidden.at(blocker.function);
      return fmt::format("{}{} is on its stack", function.name,
                         function.object == "vmlinux" ? "" : " [" + function.object + "]");
    }
    case introspect::BlockReason::unreliable:
      return fmt::format("its stack proves nothing: {}",
                         introspect::describe(stack.trace.unreliable));
    case introspect::BlockReason::in_kernel:
      return "it runs in the kernel, and moves when it leaves";
    case introspect::BlockReason::in_user:
      return "it runs in user mode, and moves at its next entry into the kernel";
    case introspect::BlockReason::running:
      break;
  }
  return "it runs";
}

std::vector<std::string> texts_of(std::vector<NamedFrame> frames) {
  std::vector<std::string> texts;
  texts.reserve(frames.size());
  for (NamedFrame& frame : frames) {
    texts.push_back(std::move(frame.text));
  }
  return texts;
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
// What a guest's agent prints for a look at its state, of any bytes.
#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/guest/guest_state.h"

std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  return {
      to_bytes("release\t6.1.0\nboot_id\tx\ntainted\t32768\nuptime\t12.5 3\nlivepatch\t1\n"
               "patch\tvpatch_demo_v1\nenabled\t1\ntransition\t0\nobject\tvmlinux\npatched\t1\n"
               "function\tcmdline_proc_show,1\nmodule\text4 9 1 - Live (OEK)\n"),
      to_bytes(
          "count\t2\ntask\t7\ncomm\tsh\nstate\tS (sleeping)\nframe\t[<0>] pipe_read+0x1/0x2\n")};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as characters
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const vpatch::GuestState state = vpatch::parse_guest_state(text);
  static_cast<void>(state.in_transition());
  static_cast<void>(vpatch::parse_pending_tasks(text));
  return 0;
}

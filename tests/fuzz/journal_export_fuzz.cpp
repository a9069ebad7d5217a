// SPDX-License-Identifier: Apache-2.0
// An exported journal that somebody else may have written.
#include <cstdlib>
#include <sstream>

#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/journal/chain.h"

namespace vpatch::fuzz {
namespace {

Verification verify(const std::string& text) {
  std::istringstream lines(text);
  return verify_export(lines);
}

void fuzz_one(std::string_view text) {
  const Verification found = verify(std::string(text));
  if (!found.sound()) {
    return;
  }
  // What is sound is so to its last line, and not without that.
  const auto end = text.find_last_not_of('\n');
  const auto last = text.rfind('\n', end);
  if (verify(std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1))).sound()) {
    std::abort();
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::string text;
  std::string head(kNoHash);
  for (int link = 1; link <= 3; ++link) {
    const std::string line = line_of(
        {.link = link, .operation = 1, .sequence = link, .at = "", .kind = "step", .detail = "{}"},
        head);
    text += line + "\n";
    head = hash_of(line);
  }
  return {to_bytes(text + closing_line(3, head) + "\n"), to_bytes(closing_line(0, kNoHash))};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::text_of(vpatch::fuzz::bytes_of(data, size)));
  return 0;
}

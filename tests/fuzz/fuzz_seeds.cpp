// SPDX-License-Identifier: Apache-2.0
// Writes the seeds of a fuzzer when it is asked to.
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  const char* const folder = std::getenv("VPATCH_FUZZ_SEEDS");
  if (folder == nullptr) {
    return 0;
  }
  int number = 0;
  bool good = true;
  for (const auto& seed : vpatch::fuzz::seeds()) {
    std::ofstream file(std::string(folder) + "/seed-" + std::to_string(number++), std::ios::binary);
    const auto text = vpatch::fuzz::text_of(seed);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    good = good && file.flush().good();
  }
  std::exit(good ? 0 : 1);
}

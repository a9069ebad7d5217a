// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace vpatch::kvm {

/// Tests that need KVM: skipped, with the reason, where it cannot be opened, and failed there when
/// VPATCH_REQUIRE_KVM=1.
class KvmTest : public testing::Test {
 protected:
  void SetUp() override {
    const int fd = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
      ::close(fd);
      return;
    }
    const std::string why = std::string("/dev/kvm cannot be opened: ") + std::strerror(errno);
    const char* const required = std::getenv("VPATCH_REQUIRE_KVM");
    if (required != nullptr && std::string(required) == "1") {
      FAIL() << why;
    }
    GTEST_SKIP() << why;
  }
};

}  // namespace vpatch::kvm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace vpatch {

/// "2026-11-21T09:41:23.000017Z"
std::string now_utc();

}  // namespace vpatch

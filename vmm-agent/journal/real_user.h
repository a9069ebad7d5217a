// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace vpatch {

/// The login name of the real user; behind sudo, of who called it.
std::string real_user();

}  // namespace vpatch

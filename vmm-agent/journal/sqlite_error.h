// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <SQLiteCpp/Exception.h>

#include "vmm-agent/error.h"

namespace vpatch {

/// Whether another connection was in the way.
bool is_busy(const SQLite::Exception& exception);

/// What SQLite says, with the next step for the user.
Error from_sqlite(const SQLite::Exception& exception);

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>
#include <string>

namespace vpatch {

/// Whether a question can be put to a person: input and error output are terminals.
bool can_ask();

/// Asks on the error output for `name` to be typed, and returns the line; empty at the end of input
/// or when `stop` is triggered.
std::string ask_for(const std::string& name, const std::stop_token& stop);

}  // namespace vpatch

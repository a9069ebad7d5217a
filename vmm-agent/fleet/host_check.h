// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "vmm-agent/rollout/engine.h"

namespace vpatch::fleet {

/// Runs a plan's health check on this host: exit code 0 is a pass, 1 a failure; any other, a
/// timeout (the program is then killed) and one that cannot be started are inconclusive. The text
/// holds the end of what it wrote to standard error. A stop, asked for on the executor's thread,
/// kills it too. The domain and operation are left to the caller.
boost::asio::awaitable<rollout::HealthVerdict> run_host_check(boost::asio::any_io_executor executor,
                                                              std::vector<std::string> argv,
                                                              std::chrono::seconds timeout,
                                                              std::stop_token stop = {});

/// The words of a check for one domain: {domain}, {identity} and {connection} in them are replaced.
std::vector<std::string> words_of_check(const std::vector<std::string>& argv,
                                        const std::string& domain, const std::string& identity,
                                        const std::string& connection);

}  // namespace vpatch::fleet

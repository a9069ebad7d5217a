// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/exporter/listen_address.h"

namespace vpatch::exporter {

struct ExporterOptions {
  ListenAddress listen{};
  std::vector<std::string> connections{};  ///< libvirt URIs of this host
  std::chrono::milliseconds interval{30'000};
  std::filesystem::path journal{};
  std::string version{};  ///< of vpatch
  /// Once, when the page can be had.
  std::function<void(const ListenAddress& address)> on_serving{};
  /// What could not be read; each text once.
  std::function<void(const std::string& text)> on_warning{};
};

/// `vpatch exporter`: serves the page of docs/exporter.md until SIGINT, SIGTERM or SIGHUP. All that
/// it tells is read in the background each interval; asking for the page reads nothing. Looks at
/// guests and changes nothing, the journal included. Ignores SIGPIPE from here on.
Result<void> run_exporter(const ExporterOptions& options);

}  // namespace vpatch::exporter

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch::fleet {

/// How the host of a libvirt connection is driven.
struct HostCommand {
  std::vector<std::string> words;  ///< starts `vpatch serve --stdio` there
  std::string connection;          ///< what that host itself calls the connection
};

/// For a connection as a plan names it: a driver of this host ("qemu:///system"), or
/// "qemu+ssh://[USER@]HOST[:PORT]/system" with libvirt's parameters `keyfile`, `known_hosts`,
/// `no_verify` and `command` (the program to run instead of ssh). `vpatch` is this program's path.
/// Outcome::usage for any other: guest memory can only be read where the VM runs.
Result<HostCommand> host_command(std::string_view uri, const std::string& vpatch);

}  // namespace vpatch::fleet

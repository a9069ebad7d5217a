// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <boost/json/object.hpp>

#include "qmp/channel.h"
#include "vmm-agent/error.h"

namespace vpatch::serve {

/// All domains of a libvirt connection, those that do not run included, as `list` of docs/serve.md
/// has them. A running one's kernel is read from its memory, of a few at one time; one that cannot
/// be read says why, and is still listed. For the others this host's journal is asked. The options
/// bound each call. Outcome::unreachable when libvirt does not answer.
Result<boost::json::object> list_domains(const std::string& uri, const qmp::CallOptions& options);

}  // namespace vpatch::serve

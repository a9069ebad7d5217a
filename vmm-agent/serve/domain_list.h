// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "qmp/channel.h"
#include "vmm-agent/error.h"

namespace vpatch::serve {

/// The namespace of vpatch's element in a domain's <metadata>, and what it holds:
/// <groups><group>web</group>...</groups>.
inline constexpr const char* kMetadataUri = "urn:vpatch:rollout";

/// The groups that the element names, without white space around them: the first 64, each of at
/// most 128 bytes. Outcome::refused when `xml` is not well formed.
Result<std::vector<std::string>> groups_of(std::string_view xml);

/// All domains of a libvirt connection, those that do not run included, as `list` of docs/serve.md
/// has them. A running one's kernel is read from its memory; one that cannot be read says why, and
/// is still listed. The options bound each call. Outcome::unreachable when libvirt does not answer.
Result<boost::json::object> list_domains(const std::string& uri, const qmp::CallOptions& options);

}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/host_command.h"

#include <boost/url.hpp>
#include <fmt/format.h>

namespace vpatch::fleet {
namespace {

namespace urls = boost::urls;

constexpr const char* kHint =
    "Name qemu:///system for this host, or qemu+ssh://HOST/system for another one, which needs "
    "vpatch too.";

std::unexpected<Error> refuse(std::string_view uri, std::string_view why) {
  return fail(Outcome::usage, fmt::format("connection {}: {}", uri, why), kHint);
}

/// A word of a connection that ssh would take for an option.
bool is_option(std::string_view word) {
  return word.starts_with('-');
}

Result<std::vector<std::string>> ssh_words(std::string_view uri, const urls::url_view& parts) {
  // BatchMode: nobody is there to answer. Without a terminal, and without forwarding anything.
  std::vector<std::string> words = {"ssh",
                                    "-T",
                                    "-oBatchMode=yes",
                                    "-oConnectTimeout=15",
                                    "-oServerAliveInterval=5",
                                    "-oServerAliveCountMax=3",
                                    "-oForwardAgent=no",
                                    "-oForwardX11=no"};
  for (const auto& parameter : parts.params()) {
    const std::string value(parameter.value);
    if (value.empty() || is_option(value)) {
      return refuse(uri, fmt::format("parameter {} has no good value", parameter.key));
    }
    if (parameter.key == "keyfile") {
      words.push_back("-i" + value);
    } else if (parameter.key == "known_hosts") {
      words.push_back("-oUserKnownHostsFile=" + value);
    } else if (parameter.key == "no_verify" && value == "1") {
      words.emplace_back("-oStrictHostKeyChecking=no");
    } else if (parameter.key == "command") {
      words.front() = value;
    } else {
      return refuse(uri, fmt::format("parameter {}={} is not known", parameter.key, value));
    }
  }
  if (parts.has_port()) {
    words.push_back(fmt::format("-p{}", std::string(parts.port())));
  }
  const std::string user = parts.user();
  if (!user.empty()) {
    words.push_back("-l" + user);
  }
  return words;
}

}  // namespace

Result<HostCommand> host_command(std::string_view uri, const std::string& vpatch) {
  if (uri == "qemu:///system" || uri == "qemu:///session" || uri == "test:///default") {
    return HostCommand{{vpatch, "serve", "--stdio"}, std::string(uri)};
  }
  const auto parsed = urls::parse_uri(uri);
  if (!parsed) {
    return refuse(uri, "it is no URI");
  }
  const urls::url_view& parts = *parsed;
  const std::string path = parts.path();
  const std::string host = parts.host_address();
  if (parts.scheme() != "qemu+ssh" || host.empty() || (path != "/system" && path != "/session") ||
      parts.has_password() || parts.has_fragment()) {
    return refuse(uri, "vpatch does not know this kind");
  }
  if (is_option(host)) {
    return refuse(uri, "that is no name of a host");
  }
  auto words = ssh_words(uri, parts);
  if (!words) {
    return std::unexpected(std::move(words.error()));
  }
  for (const char* word : {"--", host.c_str(), "vpatch", "serve", "--stdio"}) {
    words->emplace_back(word);
  }
  return HostCommand{*std::move(words), "qemu://" + path};
}

}  // namespace vpatch::fleet

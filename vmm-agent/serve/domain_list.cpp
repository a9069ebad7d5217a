// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/domain_list.h"

#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <sstream>
#include <utility>

#include <boost/json.hpp>
#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <fmt/format.h>

#include "vmm-agent/domain/bounded.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/libvirt_connection.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;
namespace tree = boost::property_tree;

constexpr int kSchema = 1;
constexpr std::size_t kMaxXml = 65'536;
constexpr std::size_t kMaxGroups = 64;
constexpr std::size_t kMaxGroup = 128;

struct FreeText {
  void operator()(char* text) const {
    std::free(text);
  }  // NOLINT(cppcoreguidelines-no-malloc): libvirt's API
};

struct Listed {
  std::string name;
  std::string identity;
  std::string metadata;  ///< empty when the domain has none of ours
};

struct Listing {
  std::vector<Listed> domains;
  std::string error;
};

/// Without the prefix of its namespace.
std::string_view local_name(std::string_view name) {
  return name.substr(name.find(':') + 1);
}

Listed look_at(virDomainPtr domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
  virDomainGetUUIDString(domain, uuid.data());
  const std::unique_ptr<char, FreeText> metadata(
      virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, kMetadataUri, 0));
  return {virDomainGetName(domain), uuid.data(), metadata == nullptr ? "" : metadata.get()};
}

Listing list_all(virConnectPtr connection) {
  virDomainPtr* found = nullptr;
  const int count = virConnectListAllDomains(connection, &found, 0);
  if (count < 0) {
    return {{}, last_libvirt_error().text};
  }
  Listing listing;
  for (int i = 0; i < count; ++i) {
    const DomainHandle domain(found[i]);
    listing.domains.push_back(look_at(domain.get()));
  }
  std::free(static_cast<void*>(found));  // NOLINT(cppcoreguidelines-no-malloc): libvirt's API
  return listing;
}

/// The domain's state, and its kernel when it runs. What cannot be known is null, with the reason.
json::object describe(const Listed& listed, const std::string& uri, const BootCache& cache,
                      const qmp::CallOptions& options) {
  json::object entry{{"name", listed.name}, {"identity", listed.identity}, {"state", nullptr},
                     {"running", false},    {"release", nullptr},          {"build_id", nullptr},
                     {"unknown", nullptr}};
  Target target;
  target.uri = uri;
  target.domain = listed.identity;
  auto domain = open_domain(target, options);
  const auto state =
      domain ? (*domain)->run_state(options) : std::unexpected(std::move(domain.error()));
  if (!state) {
    entry["unknown"] = printable(state.error().what);
    return entry;
  }
  entry["state"] = to_string(*state);
  if (*state != RunState::running) {
    return entry;
  }
  entry["running"] = true;
  auto view = GuestView::open(**domain, cache, options);
  if (!view) {
    entry["unknown"] = printable(view.error().what);
    return entry;
  }
  view->keep(cache);
  const auto& info = view->kernel().info();
  entry["release"] = printable(info.release);
  if (!info.build_id.empty()) {
    entry["build_id"] = info.build_id;
  }
  return entry;
}

void add_groups(json::object& entry, const std::string& metadata) {
  json::array names;
  if (auto groups = groups_of(metadata)) {
    for (const std::string& group : *groups) {
      names.emplace_back(group);
    }
  } else {
    entry["unknown"] = groups.error().what;
  }
  entry["groups"] = std::move(names);
}

}  // namespace

Result<std::vector<std::string>> groups_of(std::string_view xml) try {
  std::vector<std::string> groups;
  if (xml.empty()) {
    return groups;
  }
  if (xml.size() > kMaxXml) {
    return fail(Outcome::refused, "vpatch's metadata of the domain is too long");
  }
  std::istringstream text{std::string(xml)};
  tree::ptree root;
  tree::read_xml(text, root, tree::xml_parser::trim_whitespace);
  for (const auto& [name, element] : root) {
    if (local_name(name) != "groups") {
      continue;
    }
    for (const auto& [child, value] : element) {
      if (local_name(child) == "group" && groups.size() < kMaxGroups && !value.data().empty()) {
        groups.push_back(printable(value.data(), kMaxGroup));
      }
    }
  }
  return groups;
} catch (const std::exception&) {
  return fail(Outcome::refused, "vpatch's metadata of the domain is no XML");
}

Result<json::object> list_domains(const std::string& uri, const qmp::CallOptions& options) {
  auto connection = open_connection(uri, options);
  if (!connection) {
    return std::unexpected(std::move(connection.error()));
  }
  auto listing = bounded([handle = std::shared_ptr<virConnect>(
                              *std::move(connection))] { return list_all(handle.get()); },
                         options.timeout, options.stop);
  if (!listing || !listing->error.empty()) {
    return fail(Outcome::unreachable,
                fmt::format("libvirt at {}: {}", uri,
                            listing ? listing->error : "the list of domains does not come"));
  }
  const BootCache cache;
  json::array domains;
  for (const Listed& listed : listing->domains) {
    json::object entry = describe(listed, uri, cache, options);
    add_groups(entry, listed.metadata);
    domains.push_back(std::move(entry));
  }
  return json::object{{"schema", kSchema}, {"connection", uri}, {"domains", std::move(domains)}};
}

}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/libvirt_domains.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/domain/bounded.h"
#include "vmm-agent/domain/libvirt_connection.h"

namespace vpatch {
namespace {

struct FreeText {
  void operator()(char* text) const {
    std::free(text);
  }  // NOLINT(cppcoreguidelines-no-malloc): libvirt's API
};

/// vpatch's element: empty when the domain has none.
Result<std::string> metadata(virDomainPtr domain) {
  const std::unique_ptr<char, FreeText> text(
      virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, kMetadataUri, 0));
  if (text != nullptr) {
    return text.get();
  }
  LibvirtError error = last_libvirt_error();
  return error.code == VIR_ERR_NO_DOMAIN_METADATA
             ? Result<std::string>()
             : fail(Outcome::unreachable, std::move(error.text));
}

std::string uuid_of(virDomainPtr domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
  virDomainGetUUIDString(domain, uuid.data());
  return uuid.data();
}

ListedDomain look_at(virDomainPtr domain) {
  ListedDomain listed{virDomainGetName(domain), uuid_of(domain), {}, {}};
  int state = 0;
  int reason = 0;
  if (virDomainGetState(domain, &state, &reason, 0) == 0) {
    listed.state = to_run_state(state, reason);
  }
  listed.metadata = metadata(domain).value_or("");
  return listed;
}

Result<std::vector<ListedDomain>> list_all(virConnectPtr connection) {
  virDomainPtr* found = nullptr;
  const int count = virConnectListAllDomains(connection, &found, 0);
  if (count < 0) {
    return fail(Outcome::unreachable, last_libvirt_error().text);
  }
  std::vector<ListedDomain> domains;
  for (virDomainPtr one : std::span(found, static_cast<std::size_t>(count))) {
    const DomainHandle domain(one);
    domains.push_back(look_at(domain.get()));
  }
  std::free(static_cast<void*>(found));  // NOLINT(cppcoreguidelines-no-malloc): libvirt's API
  return domains;
}

Result<void> write_groups(virDomainPtr domain, const std::vector<std::string>& groups) {
  unsigned where = 0;
  if (virDomainIsPersistent(domain) == 1) {
    where |= VIR_DOMAIN_AFFECT_CONFIG;
  }
  if (virDomainIsActive(domain) == 1) {
    where |= VIR_DOMAIN_AFFECT_LIVE;
  }
  const std::string xml = metadata_of(groups);
  const bool written = virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT,
                                            groups.empty() ? nullptr : xml.c_str(), "vpatch",
                                            kMetadataUri, where) == 0;
  return written ? Result<void>() : fail(Outcome::refused, last_libvirt_error().text);
}

Result<DomainGroups> change_groups_of(virDomainPtr domain, const GroupChange& change) {
  DomainGroups result{virDomainGetName(domain), uuid_of(domain), {}};
  if (!change.replace) {  // which also repairs what cannot be read
    const auto xml = metadata(domain);
    auto groups = xml ? groups_of(*xml) : std::unexpected(xml.error());
    if (!groups) {
      return std::unexpected(std::move(groups.error()));
    }
    result.groups = *std::move(groups);
  }
  if (!change.changes()) {
    return result;
  }
  auto groups = changed(result.groups, change);
  auto written = groups ? write_groups(domain, *groups) : std::unexpected(groups.error());
  if (!written) {
    return std::unexpected(std::move(written.error()));
  }
  result.groups = *std::move(groups);
  return result;
}

}  // namespace

Result<std::vector<ListedDomain>> list_libvirt_domains(const std::string& uri,
                                                       const qmp::CallOptions& options) {
  auto connection = open_connection(uri, options);
  if (!connection) {
    return std::unexpected(std::move(connection.error()));
  }
  auto list = bounded([handle = std::shared_ptr<virConnect>(
                           *std::move(connection))] { return list_all(handle.get()); },
                      options.timeout, options.stop);
  if (!list) {
    return fail(Outcome::unreachable,
                fmt::format("libvirt at {}: the list of domains does not come", uri));
  }
  if (!*list) {
    return std::unexpected(std::move(list->error()).in_context("libvirt at " + uri));
  }
  return *std::move(list);
}

Result<DomainGroups> change_groups(const Target& target, const GroupChange& change,
                                   const qmp::CallOptions& options) {
  auto connection = open_connection(target.uri, options);
  if (!connection) {
    return std::unexpected(std::move(connection.error()));
  }
  auto done = bounded(
      [handle = std::shared_ptr<virConnect>(*std::move(connection)), uri = target.uri,
       name = target.domain, change]() -> Result<DomainGroups> {
        const auto domain = find_domain(handle.get(), uri, name);
        if (!domain) {
          return std::unexpected(domain.error());
        }
        auto groups = change_groups_of(domain->get(), change);
        return groups ? groups : std::unexpected(std::move(groups.error()).in_context(name));
      },
      options.timeout, options.stop);
  if (!done) {
    return fail(Outcome::unreachable, fmt::format("{}: groups: libvirt at {} does not answer",
                                                  target.domain, target.uri));
  }
  return *std::move(done);
}

}  // namespace vpatch

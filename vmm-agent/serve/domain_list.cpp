// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/domain_list.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/libvirt_domains.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;

constexpr int kSchema = 1;
constexpr std::size_t kMaxReaders = 4;  ///< guests that are read at one time

/// All but the kernel. What cannot be known is null, with the reason.
json::object describe(const ListedDomain& listed) {
  json::object entry{{"name", listed.name},
                     {"identity", listed.identity},
                     {"groups", json::array{}},
                     {"state", nullptr},
                     {"running", listed.state == RunState::running},
                     {"release", nullptr},
                     {"build_id", nullptr},
                     {"last_release", nullptr},
                     {"unknown", nullptr}};
  if (listed.state) {
    entry["state"] = to_string(*listed.state);
  } else {
    entry["unknown"] = "libvirt does not tell its state";
  }
  if (const auto groups = groups_of(listed.metadata)) {
    for (const std::string& group : *groups) {
      entry["groups"].as_array().emplace_back(printable(group, kMaxGroupName));
    }
  } else {
    entry["unknown"] = groups.error().what;
  }
  return entry;
}

/// The kernel of a running domain, from its memory.
void add_kernel(json::object& entry, const std::string& uri, const std::string& identity,
                const BootCache& cache, const qmp::CallOptions& options) {
  Target target;
  target.uri = uri;
  target.domain = identity;
  const auto domain = open_domain(target, options);
  auto view = domain ? GuestView::open(**domain, cache, options) : std::unexpected(domain.error());
  if (!view) {
    entry["unknown"] = printable(view.error().what);
    return;
  }
  view->keep(cache);
  const auto& info = view->kernel().info();
  entry["release"] = printable(info.release);
  if (!info.build_id.empty()) {
    entry["build_id"] = info.build_id;
  }
}

/// One guest takes up to a second, nearly all of it on one CPU.
void add_kernels(std::vector<json::object>& entries, const std::vector<ListedDomain>& domains,
                 const std::string& uri, const qmp::CallOptions& options) {
  const BootCache cache;
  std::atomic<std::size_t> next = 0;
  const auto read = [&] {
    for (std::size_t i = next++; i < domains.size(); i = next++) {
      if (domains[i].state == RunState::running) {
        add_kernel(entries[i], uri, domains[i].identity, cache, options);
      }
    }
  };
  std::vector<std::future<void>> readers;
  for (std::size_t i = 0; i < std::min(kMaxReaders, domains.size()); ++i) {
    readers.push_back(std::async(std::launch::async, read));
  }
  for (std::future<void>& reader : readers) {
    reader.get();
  }
}

/// The kernels that the domains which do not run had, where the journal knows them.
void add_last_releases(std::vector<json::object>& entries,
                       const std::vector<ListedDomain>& domains) {
  std::error_code ignored;
  if (!std::filesystem::exists(Journal::path(), ignored)) {
    return;  // a look makes none
  }
  auto journal = Journal::open(Journal::path());
  for (std::size_t i = 0; i < domains.size(); ++i) {
    if (domains[i].state == RunState::running) {
      continue;
    }
    const auto release =
        journal ? journal->last_release(domains[i].identity) : std::unexpected(journal.error());
    if (!release) {
      entries[i]["unknown"] = printable(release.error().what);
    } else if (*release) {
      entries[i]["last_release"] = printable(**release);
    }
  }
}

}  // namespace

Result<json::object> list_domains(const std::string& uri, const qmp::CallOptions& options) {
  const auto domains = list_libvirt_domains(uri, options);
  if (!domains) {
    return std::unexpected(domains.error());
  }
  std::vector<json::object> entries;
  std::ranges::transform(*domains, std::back_inserter(entries), describe);
  add_kernels(entries, *domains, uri, options);
  add_last_releases(entries, *domains);
  json::array list;
  std::ranges::move(entries, std::back_inserter(list));
  return json::object{{"schema", kSchema}, {"connection", uri}, {"domains", std::move(list)}};
}

}  // namespace vpatch::serve

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/history.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ios>
#include <memory>
#include <system_error>
#include <utility>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/cli/history_output.h"

namespace vpatch {
namespace {

namespace json = boost::json;

/// Looking makes no journal.
Result<Journal> open_existing() {
  const auto path = Journal::path();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return fail(Outcome::refused, fmt::format("there is no journal {}", path.string()),
                "vpatch makes it at its first change of a guest; VPATCH_JOURNAL names another.");
  }
  return Journal::open(path);
}

void print(json::object object) {
  json::object whole{{"schema", 1}, {"verb", "history"}};
  for (auto& [key, value] : object) {
    whole[key] = std::move(value);
  }
  write_text(stdout, json::serialize(whole) + "\n");
}

Result<void> show_one(Journal& journal, const StoredOperation& operation, bool as_json,
                      const Style& style) {
  const auto events = journal.events(operation.id);
  if (!events) {
    return std::unexpected(events.error());
  }
  if (!as_json) {
    write_text(stdout, render(operation, *events, style));
    return {};
  }
  json::object one = to_json(operation);
  json::array& list = one["events"].emplace_array();
  for (const StoredEvent& event : *events) {
    list.push_back(to_json(event));
  }
  print({{"operations", json::array{std::move(one)}}});
  return {};
}

Result<void> show_list(const HistoryOptions& options, const Style& style) {
  auto journal = open_existing();
  auto operations =
      journal ? journal->operations(options.filter) : std::unexpected(journal.error());
  if (!operations) {
    return std::unexpected(operations.error());
  }
  if (options.filter.id) {
    return operations->empty()
               ? fail(Outcome::refused, fmt::format("there is no operation {}",
                                                    std::to_underlying(*options.filter.id)))
               : show_one(*journal, operations->front(), options.json, style);
  }
  if (options.json) {
    json::array list;
    for (const StoredOperation& operation : *operations) {
      list.push_back(to_json(operation));
    }
    print({{"operations", std::move(list)}});
  } else {
    write_text(stdout, render(*operations, style));
  }
  return {};
}

Result<void> cannot_write(const std::string& path, int number) {
  return fail(Outcome::refused,
              fmt::format("write {}: {}", path.empty() ? "standard output" : path,
                          std::generic_category().message(number)),
              number == EEXIST ? "Name another file, or remove this one." : "");
}

Result<void> export_to(const std::string& path) {
  auto journal = open_existing();
  if (!journal) {
    return std::unexpected(journal.error());
  }
  std::FILE* stream = stdout;
  if (!path.empty()) {
    introspect::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) {
      return cannot_write(path, errno);
    }
    stream = ::fdopen(fd.release(), "w");
  }
  const auto exported = journal->export_lines([stream](const std::string& line) {
    return std::fwrite(line.data(), 1, line.size(), stream) == line.size() &&
           std::fputc('\n', stream) != EOF;
  });
  const bool written = std::fflush(stream) == 0 && std::ferror(stream) == 0;
  const int number = errno;
  if (!path.empty()) {
    std::fclose(stream);
    if (!written || !exported) {
      std::remove(path.c_str());
    }
  }
  if (!exported) {
    return exported;
  }
  return written ? Result<void>() : cannot_write(path, number);
}

Result<Verification> verify(const std::string& path) {
  if (path.empty()) {
    auto journal = open_existing();
    return journal ? journal->verify() : std::unexpected(journal.error());
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return fail(Outcome::refused, fmt::format("{} cannot be read", path));
  }
  try {
    return verify_export(file);
  } catch (const std::ios_base::failure& failure) {  // a folder opens, and cannot be read
    return fail(Outcome::refused,
                fmt::format("{} cannot be read: {}", path, failure.code().message()));
  }
}

Result<Outcome> show_verification(const std::string& path, bool as_json, const Style& style) {
  const auto found = verify(path);
  if (!found) {
    return std::unexpected(found.error());
  }
  if (as_json) {
    json::object object = to_json(*found);
    object["exit_code"] = static_cast<int>(found->sound() ? Outcome::done : Outcome::refused);
    print(std::move(object));
  } else {
    write_text(stdout, render(*found, path.empty() ? Journal::path().string() : path, style));
  }
  return found->sound() ? Outcome::done : Outcome::refused;
}

}  // namespace

Result<Outcome> show_history(const HistoryOptions& options, const Style& style) {
  if (options.verify) {
    return show_verification(*options.verify, options.json, style);
  }
  const auto done = options.export_to ? export_to(*options.export_to) : show_list(options, style);
  return done ? Result<Outcome>(Outcome::done) : std::unexpected(done.error());
}

}  // namespace vpatch

// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>

#include <fmt/format.h>

#include "vmm-agent/cli/options.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/exporter/exporter.h"
#include "vmm-agent/journal/journal.h"

namespace vpatch {

Outcome export_metrics(const Options& options) {
  const Style style(!options.no_color && wants_color(stderr));
  const auto warn = [](const std::string& text) { write_text(stderr, "warning: " + text + "\n"); };
  const ExporterCommand& command = options.exporter;
  if (!command.listen.loopback) {
    warn(fmt::format("whoever reaches {} may read the page: it has no authentication",
                     command.listen.text()));
  }
  exporter::ExporterOptions how;
  how.listen = command.listen;
  how.connections = command.connections;
  how.interval = command.interval;
  how.journal = Journal::path();
  how.version = options.version;
  how.on_warning = warn;
  how.on_serving = [](const exporter::ListenAddress& address) {
    write_text(stderr, fmt::format("serving http://{}/metrics until Ctrl-C\n", address.text()));
  };
  const auto done = exporter::run_exporter(how);
  if (!done) {
    write_text(stderr, render(done.error(), style));
    return done.error().outcome;
  }
  return Outcome::done;
}

}  // namespace vpatch

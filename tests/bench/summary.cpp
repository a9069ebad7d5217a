// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/summary.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch::bench {
namespace {

double median(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::string shown(std::optional<double> value) {
  if (!value) {
    return "";
  }
  return *value < 100 ? fmt::format("{:.2f}", *value) : fmt::format("{:.0f}", *value);
}

std::string verdict(const Figure& figure) {
  return !figure.bar ? "" : figure.holds() ? "holds" : "MISSED";
}

}  // namespace

double Samples::median_wall() const {
  return median(wall);
}

double Samples::median_cpu() const {
  return median(cpu);
}

double Samples::best_wall() const {
  return wall.empty() ? 0 : *std::ranges::min_element(wall);
}

bool Collector::ReportContext(const Context& context) {
  return std::exchange(began_, true) || ConsoleReporter::ReportContext(context);
}

void Collector::ReportRuns(const std::vector<Run>& runs) {
  std::vector<Run> medians;
  for (const Run& run : runs) {
    if (run.run_type == Run::RT_Aggregate) {
      if (run.aggregate_name == "median") {
        medians.push_back(run);
      }
      continue;
    }
    Samples& samples = samples_[run.run_name.function_name];
    if (run.error_occurred) {
      samples.error = run.error_message;
      medians.push_back(run);
      continue;
    }
    const auto iterations =
        static_cast<double>(std::max<benchmark::IterationCount>(run.iterations, 1));
    samples.wall.push_back(run.real_accumulated_time / iterations);
    samples.cpu.push_back(run.cpu_accumulated_time / iterations);
    if (const auto items = run.counters.find("items"); items != run.counters.end()) {
      samples.items = std::max(items->second.value, 1.0);
    }
  }
  ConsoleReporter::ReportRuns(medians);
}

const Samples* Collector::find(const std::string& name) const {
  const auto found = samples_.find(name);
  return found == samples_.end() ? nullptr : &found->second;
}

Figure figure_of(const Samples& samples, std::string kernel, std::string what, std::string unit,
                 double scale, std::optional<double> bar) {
  Figure figure{.kernel = std::move(kernel),
                .what = std::move(what),
                .unit = std::move(unit),
                .value = samples.median_wall() * scale / samples.items,
                .best = samples.best_wall() * scale / samples.items,
                .cpu = samples.median_cpu() * scale / samples.items,
                .bar = bar,
                .at_least = false,
                .note = samples.error};
  return figure;
}

void print_table(const std::vector<Figure>& figures) {
  fmt::print("\n{:<6} {:<57} {:>10} {:>10} {:>10} {:<8} {:>9}\n", "kernel", "what", "median",
             "best", "cpu", "unit", "bar");
  for (const Figure& figure : figures) {
    const std::string bar =
        figure.bar ? (figure.at_least ? ">= " : "<= ") + fmt::format("{:g}", *figure.bar) : "";
    fmt::print("{:<6} {:<57} {:>10} {:>10} {:>10} {:<8} {:>9} {:<6} {}\n", figure.kernel,
               figure.what, shown(figure.value), shown(figure.best), shown(figure.cpu), figure.unit,
               bar, verdict(figure), figure.note);
  }
}

void write_json(const std::vector<Figure>& figures, const std::string& path) {
  boost::json::array list;
  const auto maybe = [](std::optional<double> value) {
    return value ? boost::json::value(*value) : boost::json::value();
  };
  for (const Figure& figure : figures) {
    list.push_back({{"kernel", figure.kernel},
                    {"what", figure.what},
                    {"unit", figure.unit},
                    {"median", figure.value},
                    {"best", maybe(figure.best)},
                    {"cpu", maybe(figure.cpu)},
                    {"bar", maybe(figure.bar)},
                    {"bar_is_a_floor", figure.at_least},
                    {"holds", figure.holds()},
                    {"note", figure.note}});
  }
  std::ofstream file(path);
  file << boost::json::serialize(list) << '\n';
  if (!file.flush()) {
    throw std::runtime_error(path + " cannot be written");
  }
}

}  // namespace vpatch::bench

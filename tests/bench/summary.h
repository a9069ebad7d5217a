// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

namespace vpatch::bench {

/// The repetitions of one benchmark, each the time of one iteration, in seconds.
struct Samples {
  std::vector<double> wall, cpu;
  double items = 1;   ///< its counter "items": what one iteration works through, such as tasks
  std::string error;  ///< when it did not run

  double median_wall() const;
  double median_cpu() const;
  double best_wall() const;
};

/// Shows each benchmark's median as Google Benchmark does, and keeps all repetitions.
class Collector final : public benchmark::ConsoleReporter {
 public:
  Collector() : ConsoleReporter(OO_None) {}
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

  /// Nothing for a benchmark that --benchmark_filter left out.
  const Samples* find(const std::string& name) const;

 private:
  bool began_ = false;
  std::map<std::string, Samples> samples_;
};

/// One line of the table that answers whether the bars hold.
struct Figure {
  std::string kernel, what, unit;
  double value = 0;  ///< the median, by the clock on the wall
  std::optional<double> best, cpu;
  std::optional<double> bar;  ///< without, it is only told
  bool at_least = false;      ///< the bar is a floor
  std::string note;

  /// By CPU time where there is one: that of the thread that looks, in and for which everything
  /// happens. On a host with a free core it is the time on the wall, and on a busy one it stays so.
  double judged() const { return cpu.value_or(value); }
  bool holds() const { return !bar || (at_least ? judged() >= *bar : judged() <= *bar); }
};

/// `scale` turns seconds into `unit`; a figure is for one item.
Figure figure_of(const Samples& samples, std::string kernel, std::string what, std::string unit,
                 double scale, std::optional<double> bar);

void print_table(const std::vector<Figure>& figures);
void write_json(const std::vector<Figure>& figures, const std::string& path);

}  // namespace vpatch::bench

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/report_parts.h"

namespace vpatch::fleet {
namespace {

constexpr double kBinsADecade = 5;
constexpr std::size_t kPlots = 6;  ///< kernel releases, the rest together

using Values = std::vector<Microseconds>;

/// Powers of ten of a microsecond, so that plots of one kind have the same axis.
struct Axis {
  int begin = 0, end = 1;

  double place_of(Microseconds time) const {
    const double decade = std::log10(static_cast<double>(std::max<std::int64_t>(time.count(), 1)));
    return std::clamp(100 * (decade - begin) / (end - begin), 0.0, 100.0);
  }
  std::size_t bins() const { return static_cast<std::size_t>((end - begin) * kBinsADecade); }
};

Axis axis_of(const std::map<std::string, Values>& plots) {
  Microseconds least = Microseconds::max();
  Microseconds most{1};
  for (const auto& [name, values] : plots) {
    for (const Microseconds value : values) {
      least = std::min(least, std::max(value, Microseconds(1)));
      most = std::max(most, value);
    }
  }
  least = std::min(least, most);
  const auto decade = [](Microseconds time) {
    return std::log10(static_cast<double>(time.count()));
  };
  Axis axis;
  axis.begin = static_cast<int>(std::floor(decade(least)));
  axis.end = std::max(static_cast<int>(std::ceil(decade(most))), axis.begin + 1);
  return axis;
}

std::string_view decade_text(int decade) {
  constexpr std::array<std::string_view, 13> kTexts = {
      "1 us", "10 us", "100 us", "1 ms",  "10 ms",  "100 ms", "1 s",
      "10 s", "100 s", "1000 s", "10 ks", "100 ks", "1000 ks"};
  return kTexts.at(static_cast<std::size_t>(std::clamp(decade, 0, 12)));
}

constexpr int kTop = 18;      // room for the quantiles' names
constexpr int kBottom = 110;  // where the bars stand

void append_bars(std::string& page, const Axis& axis, const Values& values) {
  std::vector<std::size_t> bins(axis.bins());
  for (const Microseconds value : values) {
    const auto bin =
        static_cast<std::size_t>(axis.place_of(value) / 100 * static_cast<double>(bins.size()));
    ++bins[std::min(bin, bins.size() - 1)];
  }
  const auto most = static_cast<double>(std::max<std::size_t>(std::ranges::max(bins), 1));
  const double width = 100.0 / static_cast<double>(bins.size());
  for (std::size_t bin = 0; bin < bins.size(); ++bin) {
    if (bins[bin] > 0) {
      const double height = std::max((kBottom - kTop) * static_cast<double>(bins[bin]) / most, 2.0);
      fmt::format_to(std::back_inserter(page),
                     "<rect class=\"column\" x=\"{:.2f}%\" width=\"{:.2f}%\" y=\"{:.1f}\" "
                     "height=\"{:.1f}\"/>",
                     static_cast<double>(bin) * width, width, kBottom - height, height);
    }
  }
}

void append_decades(std::string& page, const Axis& axis) {
  const int step = (axis.end - axis.begin + 5) / 6;
  for (int decade = axis.begin; decade <= axis.end; decade += step) {
    const double x = 100.0 * (decade - axis.begin) / (axis.end - axis.begin);
    fmt::format_to(std::back_inserter(page),
                   "<line class=\"grid\" x1=\"{0:.2f}%\" x2=\"{0:.2f}%\" y1=\"{1}\" "
                   "y2=\"{2}\"/><text x=\"{0:.2f}%\" y=\"{3}\" text-anchor=\"{4}\">{5}</text>",
                   x, kTop, kBottom + 5, kBottom + 19,
                   decade == axis.begin ? "start"
                   : decade == axis.end ? "end"
                                        : "middle",
                   decade_text(decade));
  }
}

void append_quantile(std::string& page, const Axis& axis, std::string_view style,
                     std::string_view name, Microseconds value) {
  const double x = axis.place_of(value);
  fmt::format_to(std::back_inserter(page),
                 "<line class=\"{0}\" x1=\"{1:.2f}%\" x2=\"{1:.2f}%\" y1=\"{2}\" y2=\"{3}\"/><text "
                 "x=\"{1:.2f}%\" y=\"{4}\" text-anchor=\"{5}\">{6}</text>",
                 style, x, kTop - 4, kBottom, kTop - 7, x > 50 ? "end" : "start", name);
}

std::string quantile_text(const Quantiles& quantiles) {
  return fmt::format("p50 {}, p90 {}, p99 {}, max {}", short_time(quantiles.p50),
                     short_time(quantiles.p90), short_time(quantiles.p99),
                     short_time(quantiles.max));
}

void append_plot(std::string& page, const Axis& axis, std::string_view what,
                 const std::string& release, const Values& values) {
  const Quantiles quantiles = quantiles_of(values);
  auto out = std::back_inserter(page);
  fmt::format_to(out,
                 "<figure>\n<figcaption><strong>{}</strong>: {} {}; {}</figcaption>\n<svg "
                 "height=\"134\" role=\"img\"><title>{} with kernel {}</title><desc>A histogram "
                 "with a logarithmic axis. {}.</desc>",
                 release, quantiles.count, quantiles.count == 1 ? "domain" : "domains",
                 quantile_text(quantiles), what, release, quantile_text(quantiles));
  append_decades(page, axis);
  append_bars(page, axis, values);
  fmt::format_to(out, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0}\" y2=\"{0}\"/>", kBottom);
  append_quantile(page, axis, "median", "p50", quantiles.p50);
  // Where the two are close only the line tells, for the names would touch.
  const bool apart = axis.place_of(quantiles.p99) - axis.place_of(quantiles.p50) > 12;
  append_quantile(page, axis, "late", apart ? "p99" : "", quantiles.p99);
  page += "</svg>\n</figure>\n";
}

/// By release; those of the fewest domains together, where there are many releases.
std::map<std::string, Values> grouped(const ReportFacts& facts,
                                      std::optional<Microseconds> MeasuredTimes::* kind) {
  std::map<std::string_view, std::size_t> sizes;
  for (std::size_t id = 0; id < facts.times.size(); ++id) {
    sizes[domains_of(facts)[id].release] += std::size_t{(facts.times[id].*kind).has_value()};
  }
  std::vector<std::pair<std::size_t, std::string_view>> largest;
  for (const auto& [release, size] : sizes) {
    largest.emplace_back(size, release);
  }
  std::ranges::sort(largest, std::greater());
  largest.resize(std::min(largest.size(), kPlots));
  std::map<std::string_view, std::string> names;
  for (const auto& [size, release] : largest) {
    names.emplace(release, release.empty() ? "kernel not known" : page_text(release, 200));
  }
  std::map<std::string, Values> plots;
  for (std::size_t id = 0; id < facts.times.size(); ++id) {
    if (const auto& time = facts.times[id].*kind) {
      const auto name = names.find(domains_of(facts)[id].release);
      plots[name == names.end() ? "other kernels" : name->second].push_back(*time);
    }
  }
  return plots;
}

void append_transitions(std::string& page, const ReportFacts& facts) {
  constexpr std::string_view kTitle = "Transition times";
  const auto plots = grouped(facts, &MeasuredTimes::transition);
  fmt::format_to(std::back_inserter(page), "<h3>{}</h3>\n", kTitle);
  if (plots.empty()) {
    page += "<p class=\"note\">None was measured.</p>\n";
    return;
  }
  page +=
      "<p class=\"note\">From the load of the livepatch until every task had moved, as the guest "
      "module measured it, or else as the host saw it.</p>\n";
  const Axis axis = axis_of(plots);
  for (const auto& [release, values] : plots) {
    append_plot(page, axis, kTitle, release, values);
  }
}

void append_pauses(std::string& page, const ReportFacts& facts) {
  constexpr std::string_view kTitle = "Pause times";
  auto plots = grouped(facts, &MeasuredTimes::pause);
  fmt::format_to(std::back_inserter(page), "<h3>{}</h3>\n", kTitle);
  std::size_t all = 0;
  std::size_t without = 0;
  for (auto& [release, values] : plots) {
    all += values.size();
    without += std::erase(values, Microseconds(0));
  }
  std::erase_if(plots, [](const auto& plot) { return plot.second.empty(); });
  if (all == 0) {
    page += "<p class=\"note\">None was measured.</p>\n";
    return;
  }
  fmt::format_to(
      std::back_inserter(page),
      "<p class=\"note\">All pauses of a domain together, by QEMU's own events. {} of {} "
      "domains were not paused at all{}.</p>\n",
      without, all, plots.empty() ? "" : ", and are not in the plots");
  const Axis axis = axis_of(plots);
  for (const auto& [release, values] : plots) {
    append_plot(page, axis, kTitle, release, values);
  }
}

}  // namespace

void append_plots(std::string& page, const ReportFacts& facts) {
  page += "<section>\n<h2 id=\"times\">Times</h2>\n";
  append_transitions(page, facts);
  append_pauses(page, facts);
  page += "</section>\n";
}

}  // namespace vpatch::fleet

// A sweep as a drawing: what a cell reaches, and what it costs in bytes.
#include <algorithm>
#include <cmath>

#include "run/printer.hpp"
#include "run/svg.hpp"
#include "run/sweep_table.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

constexpr double kLeft = 80, kTop = 40, kWidth = 560, kHeight = 340, kLegendWidth = 380;
constexpr std::size_t kLegendMax = 40, kLabelBytesMax = 60;
constexpr double kLogFrom = 8;  // ratio of the ends of an axis of bytes that is logarithmic

// One direction of the plot: values to pixels, and where its marks are.
struct Axis {
  double low, high;
  bool logarithmic;

  double share(double value) const {
    const auto scale = [this](double v) { return logarithmic ? std::log10(v) : v; };
    return (scale(value) - scale(low)) / (scale(high) - scale(low));
  }
  // Round numbers between the ends: 1, 2 or 5 times a power of ten apart, or 1, 2, 5, 10, 20, ...
  std::vector<double> marks() const {
    std::vector<double> marks;
    if (logarithmic) {
      for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high;
           decade *= 10) {
        for (const double digit : {1.0, 2.0, 5.0}) {
          if (digit * decade >= low && digit * decade <= high) marks.push_back(digit * decade);
        }
      }
      return marks;
    }
    const double rough = (high - low) / 5, power = std::pow(10, std::floor(std::log10(rough)));
    const double digit = rough / power;
    const double step = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
    for (double i = std::ceil(low / step); i * step <= high + step * 1e-9; ++i) {
      marks.push_back(i * step);
    }
    return marks;
  }
};

Axis axis_of(double low, double high, bool bytes) {
  if (bytes && low > 0 && high / low >= kLogFrom) return {low / 1.3, high * 1.3, true};
  double room = (high - low) * 0.06;
  if (room <= 0) room = std::max(std::abs(low) * 0.05, 1e-9);
  return {bytes ? std::max(0.0, low - room) : low - room, high + room, false};
}

double bytes_at(const CellRow& row) { return row.bytes_up.mean + row.bytes_down.mean; }

std::string frame(const Axis& x, const Axis& y, const std::string& metric) {
  const double foot = kTop + kHeight;
  std::string svg = print("<path d=\"M%.0f %.0fV%.0fH%.0f\" fill=\"none\" stroke=\"black\"/>\n",
                          kLeft, kTop, foot, kLeft + kWidth);
  for (const double mark : x.marks()) {
    const double at = kLeft + kWidth * x.share(mark);
    svg += print("<path d=\"M%.2f %.0fv5\" stroke=\"black\"/>", at, foot);
    svg += print("<text x=\"%.2f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", at, foot + 18,
                 bytes_text(static_cast<std::uint64_t>(mark)).c_str());
  }
  for (const double mark : y.marks()) {
    const double at = foot - kHeight * y.share(mark);
    svg += print("<path d=\"M%.0f %.2fH%.0f\" stroke=\"#ddd\"/>", kLeft, at, kLeft + kWidth);
    svg += print("<text x=\"%.0f\" y=\"%.2f\" text-anchor=\"end\">%.6g</text>\n", kLeft - 8, at + 4,
                 std::abs(mark) < 1e-12 ? 0 : mark);
  }
  svg +=
      print("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">bytes of a run, both ways</text>\n",
            kLeft + kWidth / 2, foot + 38);
  svg += print("<text x=\"%.0f\" y=\"%.0f\">", kLeft, kTop - 8) + escaped(metric) + "</text>\n";
  return svg;
}

std::string mark_of(const CellRow& row, const Axis& x, const Axis& y, const std::string& colour) {
  const double at = kLeft + kWidth * x.share(bytes_at(row));
  const auto height = [&](double value) { return kTop + kHeight - kHeight * y.share(value); };
  const double mean = row.metric.mean, half = row.metric.half_width.value_or(0);
  std::string svg;
  if (row.metric.half_width) {
    svg += print("<path d=\"M%.2f %.2fV%.2fm-4 0h8M%.2f %.2fh8\" fill=\"none\" stroke=\"%s\"/>", at,
                 height(mean - half), height(mean + half), at - 4, height(mean - half),
                 colour.c_str());
  }
  return svg + print("<circle cx=\"%.2f\" cy=\"%.2f\" r=\"4\" fill=\"%s\"/>\n", at, height(mean),
                     colour.c_str());
}

}  // namespace

std::string table_svg(const Sweep& sweep, const std::vector<CellRow>& all) {
  std::vector<CellRow> rows = all;
  std::erase_if(rows, [](const CellRow& row) { return row.metric.count == 0; });
  const std::size_t named = std::min(rows.size(), kLegendMax);
  const double height = std::max(kTop + kHeight + 60, kTop + 20 + 16 * static_cast<double>(named));
  std::string svg = print(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n",
      kLeft + kWidth + kLegendWidth, height);
  svg += print("<text x=\"%.0f\" y=\"18\" font-size=\"14\">", kLeft) + escaped(sweep.name) +
         ": mean over seeds and its 95 % interval</text>\n";
  if (rows.empty()) return svg + "<text x=\"80\" y=\"60\">no run is done</text>\n</svg>\n";

  const auto low_of = [](const CellRow& row) {
    return row.metric.mean - row.metric.half_width.value_or(0);
  };
  const auto high_of = [](const CellRow& row) {
    return row.metric.mean + row.metric.half_width.value_or(0);
  };
  const auto [fewest, most] = std::ranges::minmax(rows, {}, bytes_at);
  const double lowest = low_of(std::ranges::min(rows, {}, low_of));
  const double highest = high_of(std::ranges::max(rows, {}, high_of));
  const Axis x = axis_of(bytes_at(fewest), bytes_at(most), true);
  const Axis y = axis_of(lowest, highest, false);
  svg += frame(x, y, sweep.metric);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double turn = 360.0 * static_cast<double>(i) / static_cast<double>(rows.size());
    const std::string colour = print("hsl(%.0f,60%%,%d%%)", turn, i % 2 == 0 ? 45 : 58);
    svg += mark_of(rows[i], x, y, colour);
    if (i >= named) continue;
    const double left = kLeft + kWidth + 20, top = kTop + 16 * static_cast<double>(i);
    svg +=
        print("<circle cx=\"%.0f\" cy=\"%.0f\" r=\"4\" fill=\"%s\"/>", left, top, colour.c_str());
    svg += print("<text x=\"%.0f\" y=\"%.0f\">", left + 10, top + 4) +
           escaped(sweep.cells[rows[i].cell].label().substr(0, kLabelBytesMax)) + "</text>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace fedctl::run

// Who has which labels, as a drawing.
#include <algorithm>

#include "run/plan.hpp"
#include "run/svg.hpp"
#include "run/text.hpp"

namespace fedctl::run {
namespace {

constexpr std::size_t kSvgClientsMax = 2000, kLegendMax = 30;

}  // namespace

std::string histogram_svg(const Histogram& histogram, const std::string& title) {
  constexpr double kHeight = 300, kLeft = 60, kTop = 40;
  const std::size_t clients = std::min(histogram.counts.size(), kSvgClientsMax);
  const double step =
      std::clamp(900 / static_cast<double>(std::max<std::size_t>(1, clients)), 1.0, 40.0);
  const std::size_t named = std::min(histogram.classes.size(), kLegendMax);
  const std::vector<std::size_t> totals = histogram.totals();
  const std::size_t highest =
      std::max<std::size_t>(1, totals.empty() ? 0 : *std::ranges::max_element(totals));
  const double width = kLeft + step * static_cast<double>(clients) + 140;
  const double height = std::max(kTop + kHeight + 50, kTop + 20 + 14 * static_cast<double>(named));
  const auto colour = [&](std::size_t c) {
    const double turn = 360.0 * static_cast<double>(c) / static_cast<double>(histogram.columns());
    return print("hsl(%.0f,60%%,%d%%)", turn, c % 2 == 0 ? 45 : 62);
  };
  std::string svg = print(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n",
      width, height);
  svg += print("<text x=\"%.0f\" y=\"20\" font-size=\"14\">", kLeft) + escaped(title) +
         ": training examples by client" +
         (clients < histogram.counts.size() ? print(", the first %zu", clients) : "") + "</text>\n";
  for (std::size_t client = 0; client < clients; ++client) {
    const double x = kLeft + step * static_cast<double>(client);
    double y = kTop + kHeight;
    for (std::size_t c = 0; c < histogram.columns(); ++c) {
      const std::size_t count = histogram.counts[client][c];
      if (count == 0) continue;
      const double tall = kHeight * static_cast<double>(count) / static_cast<double>(highest);
      y -= tall;
      svg += print("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"/>\n", x,
                   y, std::max(0.8, step * 0.9), tall, colour(c).c_str());
    }
  }
  const double foot = kTop + kHeight;
  svg += print("<path d=\"M%.0f %.0fV%.0fH%.2f\" fill=\"none\" stroke=\"black\"/>\n", kLeft, kTop,
               foot, kLeft + step * static_cast<double>(clients));
  svg += print("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%zu</text>\n", kLeft - 6, kTop + 10,
               highest);
  svg += print("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">0</text>\n", kLeft - 6, foot);
  svg += print("<text x=\"%.0f\" y=\"%.0f\">client 0 to %zu</text>\n", kLeft, foot + 18,
               clients == 0 ? 0 : clients - 1);
  for (std::size_t c = 0; c < named; ++c) {
    const double y = kTop + 14 * static_cast<double>(c), x = width - 130;
    svg += print("<rect x=\"%.0f\" y=\"%.0f\" width=\"10\" height=\"10\" fill=\"%s\"/>", x, y,
                 colour(c).c_str());
    svg += print("<text x=\"%.0f\" y=\"%.0f\">", x + 16, y + 9) +
           escaped(histogram.classes[c].substr(0, 40)) + "</text>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace fedctl::run

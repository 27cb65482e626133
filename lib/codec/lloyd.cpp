#include "codec/detail/lloyd.hpp"

#include <algorithm>
#include <cstdint>

namespace fedctl::codec::detail {
namespace {

double between(float low, float high) { return (static_cast<double>(low) + high) / 2; }

}  // namespace

std::vector<float> quantiles(std::span<const float> sorted, std::size_t clusters) {
  std::vector<float> centroids;
  for (std::size_t j = 0; j < clusters; ++j) {
    centroids.push_back(sorted[(2 * j + 1) * sorted.size() / (2 * clusters)]);
  }
  return centroids;
}

std::vector<float> lloyd(std::span<const float> sorted, std::vector<float> centroids,
                         std::size_t passes) {
  std::vector<double> sums = {0};  // of the values before each
  sums.reserve(sorted.size() + 1);
  for (const float value : sorted) sums.push_back(sums.back() + value);
  for (std::size_t pass = 0; pass < passes; ++pass) {
    const std::vector<float> before = centroids;
    auto first = sorted.begin();
    for (std::size_t j = 0; j < centroids.size(); ++j) {
      const auto last =
          j + 1 == centroids.size()
              ? sorted.end()
              : std::lower_bound(first, sorted.end(), between(before[j], before[j + 1]),
                                 [](float value, double bound) { return value < bound; });
      if (first != last) {
        const auto low = static_cast<std::size_t>(first - sorted.begin());
        const auto high = static_cast<std::size_t>(last - sorted.begin());
        const double mean = (sums[high] - sums[low]) / static_cast<double>(high - low);
        // Rounding must not carry a mean beyond its values: centroids stay in order.
        centroids[j] = std::clamp(static_cast<float>(mean), *first, *(last - 1));
      }
      first = last;
    }
    // One without values may have been passed by a neighbour.
    std::sort(centroids.begin(), centroids.end());
    if (centroids == before) break;
  }
  return centroids;
}

std::uint8_t nearest(std::span<const float> centroids, float value) {
  std::size_t low = 0, high = centroids.size() - 1;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (value < between(centroids[middle], centroids[middle + 1])) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return static_cast<std::uint8_t>(low);
}

}  // namespace fedctl::codec::detail

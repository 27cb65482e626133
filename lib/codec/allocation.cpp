#include "codec/detail/allocation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/assert.hpp"

namespace fedctl::codec::detail {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// The error in buckets, at least 1; more than `most` if it is beyond all of them.
std::size_t buckets_of(double error, double unit, std::size_t most) {
  if (error == 0) return 1;
  const double buckets = unit > 0 ? std::ceil(error / unit) : HUGE_VAL;
  return buckets <= static_cast<double>(most)
             ? std::max<std::size_t>(1, static_cast<std::size_t>(buckets))
             : most + 1;
}

}  // namespace

std::vector<std::size_t> allocate(std::span<const Costs> layers, std::size_t standard,
                                  double factor, std::size_t buckets) {
  std::vector<std::size_t> chosen(layers.size(), standard);
  if (layers.empty()) return chosen;
  double budget = 0;
  for (const Costs& layer : layers) {
    FEDCTL_ASSERT(layer.error.size() == layer.size.size() && standard < layer.size.size() &&
                  layer.size.size() <= 255);
    budget += factor * layer.error[standard];
  }
  const double unit = budget / static_cast<double>(buckets);
  const std::size_t most = buckets + layers.size();

  // least[j]: of the layers so far with an error of exactly j buckets; by[l][j]: the last one's
  // setting.
  std::vector<std::uint64_t> least(most + 1, kNever), next(most + 1);
  least[0] = 0;
  std::vector<std::vector<std::uint8_t>> by;
  for (const Costs& layer : layers) {
    std::fill(next.begin(), next.end(), kNever);
    std::vector<std::uint8_t>& setting = by.emplace_back(most + 1);
    for (std::size_t v = 0; v < layer.size.size(); ++v) {
      const std::size_t error = buckets_of(layer.error[v], unit, most);
      for (std::size_t j = error; j <= most; ++j) {
        if (least[j - error] == kNever || least[j - error] + layer.size[v] >= next[j]) continue;
        next[j] = least[j - error] + layer.size[v];
        setting[j] = static_cast<std::uint8_t>(v);
      }
    }
    least.swap(next);
  }
  auto j = static_cast<std::size_t>(std::min_element(least.begin(), least.end()) - least.begin());
  if (least[j] == kNever) return chosen;
  for (std::size_t l = layers.size(); l-- > 0;) {
    chosen[l] = by[l][j];
    j -= buckets_of(layers[l].error[chosen[l]], unit, most);
  }
  return chosen;
}

}  // namespace fedctl::codec::detail

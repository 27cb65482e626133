#include "codec/detail/runs.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/assert.hpp"

namespace fedctl::codec::detail {
namespace {

constexpr unsigned kSignificantBits = 5;

std::uint64_t next_parameter(std::uint64_t m, bool power_of_two) {
  if (power_of_two) return 2 * m;
  const auto width = static_cast<unsigned>(std::bit_width(m));
  return m + (width <= kSignificantBits ? 1 : std::uint64_t{1} << (width - kSignificantBits));
}

}  // namespace

std::uint8_t most_frequent(std::span<const std::uint8_t> symbols) {
  FEDCTL_ASSERT(!symbols.empty());
  // Four tables, so that a row of equal numbers does not wait for its own last addition.
  std::array<std::array<std::uint64_t, 256>, 4> counts{};
  std::size_t i = 0;
  for (; i + 4 <= symbols.size(); i += 4) {
    for (std::size_t k = 0; k < 4; ++k) ++counts[k][symbols[i + k]];
  }
  for (; i < symbols.size(); ++i) ++counts[0][symbols[i]];
  for (std::size_t symbol = 0; symbol < 256; ++symbol) {
    for (std::size_t k = 1; k < 4; ++k) counts[0][symbol] += counts[k][symbol];
  }
  return static_cast<std::uint8_t>(std::ranges::max_element(counts[0]) - counts[0].begin());
}

std::vector<RunLengths::Runs> RunLengths::distinct() const {
  std::vector<Runs> runs;
  for (std::size_t length = 0; length < short_.size(); ++length) {
    if (short_[length] > 0) runs.push_back({length, short_[length]});
  }
  for (const std::uint64_t length : long_) runs.push_back({length, 1});
  return runs;
}

std::uint64_t RunLengths::best_parameter(bool power_of_two) const {
  const std::vector<Runs> runs = distinct();
  std::uint64_t count = 0;
  for (const Runs& same : runs) count += same.count;
  FEDCTL_ASSERT(count > 0);
  std::uint64_t best = 1, best_bits = std::numeric_limits<std::uint64_t>::max();
  for (std::uint64_t m = 1;; m = next_parameter(m, power_of_two)) {
    const auto width = static_cast<std::uint64_t>(std::bit_width(m - 1));  // b
    // No run has fewer than b bits, 1 with M = 1, and b only grows.
    if (m > 1 && count * width >= best_bits) return best;
    const std::uint64_t shorter = (std::uint64_t{1} << width) - m;  // u
    std::uint64_t bits = count * (1 + width);
    for (const Runs& same : runs) {
      const std::uint64_t ones = same.length / m;
      const bool one_less = same.length - ones * m < shorter;
      bits += same.count * (ones - (one_less ? 1 : 0));
    }
    if (bits < best_bits) {
      best = m;
      best_bits = bits;
    }
  }
}

}  // namespace fedctl::codec::detail

#include "codec/detail/levels.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include "codec/detail/entropy.hpp"

namespace fedctl::codec::detail {
namespace {

constexpr float kRounding = 0.45F;
constexpr std::size_t kSampleSegments = 128;
constexpr double kNear = 0.003;   // of the wanted bits
constexpr double kNearBits = 16;  // a word of rans
constexpr int kFits = 16;         // messages that are tried
constexpr double kFirstFactor = 1.01;
constexpr double kLastLevel = 1.8;  // below 1 / 0.55: the largest value has level 1
constexpr int kSteps = 18;          // of the search: 2^-18 of its range of 24 octaves is 0.01 %

using Histogram = std::array<std::uint32_t, 2 * kHighMax + 2>;  // level -kHighMax - 1 first

void count(std::span<const std::int32_t> levels, unsigned low_bits, Histogram& histogram) {
  for (const std::int32_t level : levels) {
    ++histogram[static_cast<std::size_t>((level >> low_bits) + kHighMax + 1)];
  }
}

// Numbers by rans: at their entropy, and 24 bits for each state.
std::uint64_t coded_q16(std::span<const std::uint32_t> counts) {
  const std::uint64_t bits = entropy_q16(counts);
  return bits == 0 ? 0 : bits + (std::uint64_t{bits >> 16 < 4096 ? 24U : 96U} << 16);
}

// Two and a half bytes a number that occurs, and a byte for its range.
std::uint64_t table_q16(const Histogram& histogram) {
  const auto used = std::ranges::count_if(histogram, [](std::uint32_t n) { return n > 0; });
  return used > 1 ? (8 + 20 * static_cast<std::uint64_t>(used)) << 16 : 8 << 16;
}

// Up to kSampleSegments segments of 256 at even distances; the whole vector if it is not longer.
std::vector<float> sample_of(std::span<const float> values) {
  const std::size_t segments = values.size() / kSegment;
  if (segments <= kSampleSegments) return {values.begin(), values.end()};
  std::vector<float> sample;
  sample.reserve(kSampleSegments * kSegment);
  for (std::size_t i = 0; i < kSampleSegments; ++i) {
    const auto segment = values.subspan(i * segments / kSampleSegments * kSegment, kSegment);
    sample.insert(sample.end(), segment.begin(), segment.end());
  }
  return sample;
}

}  // namespace

void to_levels(std::span<const float> values, float step, std::span<std::int32_t> levels) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float steps = values[i] / step;
    levels[i] = static_cast<std::int32_t>(steps + std::copysign(kRounding, steps));
  }
}

unsigned low_bits_of(std::span<const std::int32_t> levels) {
  std::int32_t lowest = 0, highest = 0;
  for (const std::int32_t level : levels) {
    lowest = std::min(lowest, level);
    highest = std::max(highest, level);
  }
  unsigned low_bits = 0;
  while ((highest >> low_bits) > kHighMax || (lowest >> low_bits) < -kHighMax) ++low_bits;
  return low_bits;
}

std::uint8_t class_of(std::span<const std::int32_t> segment, unsigned low_bits) {
  std::uint32_t sum = 0;
  for (const std::int32_t level : segment) {
    sum += static_cast<std::uint32_t>(std::abs(level >> low_bits));
  }
  return static_cast<std::uint8_t>(
      std::min<unsigned>(kClasses - 1, (static_cast<unsigned>(std::bit_width(sum)) + 1) / 2));
}

Size size_of(std::span<const std::int32_t> levels, unsigned low_bits) {
  std::array<Histogram, kClasses> by_class{};
  std::array<std::uint32_t, kClasses> segments{};
  for (std::size_t first = 0; first < levels.size(); first += kSegment) {
    const auto segment = levels.subspan(first, std::min(kSegment, levels.size() - first));
    const std::uint8_t which = class_of(segment, low_bits);
    ++segments[which];
    count(segment, low_bits, by_class[which]);
  }
  Histogram all{};
  std::uint64_t with_classes = coded_q16(segments) + (std::uint64_t{8 * kClasses} << 16);
  for (std::size_t which = 0; which < kClasses; ++which) {
    if (segments[which] == 0) continue;
    with_classes += coded_q16(by_class[which]) + table_q16(by_class[which]);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] += by_class[which][i];
  }
  const std::uint64_t without = coded_q16(all) + table_q16(all);
  const std::uint64_t low = (levels.size() * std::uint64_t{low_bits}) << 16;
  return {std::min(with_classes, without) + low, with_classes < without};
}

Lost lost_by(std::span<const float> values, std::span<const std::int32_t> levels, float step) {
  // With the centroids of the cells, as they are sent.
  double norm = 0, squares = 0;
  std::array<double, 4> sums{}, numbers{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = std::abs(static_cast<double>(values[i])) / step;
    const auto magnitude = static_cast<std::size_t>(std::abs(levels[i]));
    const double off = magnitude == 0 ? x : x - static_cast<double>(magnitude);
    norm += x * x;
    squares += off * off;
    if (magnitude == 0) continue;
    sums[std::min<std::size_t>(magnitude, 3)] += off;
    ++numbers[std::min<std::size_t>(magnitude, 3)];
  }
  for (std::size_t i = 1; i < 4; ++i) {
    if (numbers[i] > 0) squares -= sums[i] * sums[i] / numbers[i];
  }
  return {squares, norm};
}

namespace {

// The step at which the sample meets the target.
float search(std::span<const float> sample, float largest, const Target& target) {
  std::vector<std::int32_t> levels(sample.size());
  const double bits_wanted = target.bits_per_value * static_cast<double>(sample.size()) * 65536;
  const auto too_fine = [&](float step) {
    to_levels(sample, step, levels);
    if (target.distortion > 0) {
      const Lost lost = lost_by(sample, levels, step);
      return lost.squares < target.distortion * lost.norm;
    }
    return static_cast<double>(size_of(levels, low_bits_of(levels)).bits_q16) > bits_wanted;
  };
  // From 22 bits of levels to none. The root is the same on every machine, a power need not be.
  double low = static_cast<double>(largest) * 0x1p-22, high = static_cast<double>(largest) * 4;
  constexpr double kLeast = std::numeric_limits<float>::min();
  constexpr double kMost = std::numeric_limits<float>::max();
  for (int i = 0; i < kSteps; ++i) {
    const double middle = std::sqrt(low * high);
    const bool usable = middle >= kLeast && middle <= kMost;
    const bool finer = usable ? too_fine(static_cast<float>(middle)) : middle < kLeast;
    (finer ? low : high) = middle;
  }
  return high >= kLeast ? static_cast<float>(std::min(high, kMost)) : 0;
}

}  // namespace

float find_step(std::span<const float> values, float largest, const Target& target) {
  const std::vector<float> sample = sample_of(values);
  const float step = search(sample, largest, target);
  if (sample.size() == values.size() || step == 0 || target.distortion > 0) return step;
  // A sample of few large values is off by some percent: aim again, by as much beside the target.
  std::vector<std::int32_t> levels(values.size());
  to_levels(values, step, levels);
  const double bits = static_cast<double>(size_of(levels, low_bits_of(levels)).bits_q16) / 65536;
  const double per_value = bits / static_cast<double>(values.size());
  if (per_value == 0) return step;
  return search(sample, largest,
                {target.bits_per_value * target.bits_per_value / per_value, target.distortion});
}

float fit_step(float step, float largest, double bits,
               const std::function<double(float step)>& bits_at) {
  constexpr double kLeast = std::numeric_limits<float>::min();
  constexpr double kMost = std::numeric_limits<float>::max();
  const double coarsest = std::min(kLastLevel * largest, kMost);
  if (step == 0 || coarsest < kLeast) return step;
  const double slack = std::max(kNear * bits, kNearBits);
  double high = std::min<double>(step, coarsest);
  const double first = bits_at(static_cast<float>(high));
  if (first >= bits - slack && first <= bits * (1 + kNear)) return static_cast<float>(high);
  double low = std::max(0x1p-22 * largest, kLeast);
  const bool coarser = first > bits;
  if (coarser) low = std::exchange(high, coarsest);
  double bits_low = coarser ? first : 0, bits_high = coarser ? 0 : first;  // 0: not tried
  // Near the answer first, twice as far each time, until it lies between two tries.
  double factor = kFirstFactor;
  for (int i = 0; i < kFits && low < high; ++i) {
    double middle = coarser ? low * factor : high / factor;
    factor *= factor;
    if (bits_low > 0 && bits_high > 0 && high < 2 * low) {
      const double share = (bits - slack / 2 - bits_high) / (bits_low - bits_high);
      middle = high - (high - low) * std::clamp(share, 0.05, 0.95);
    } else if ((bits_low > 0 && bits_high > 0) || middle <= low || middle >= high) {
      middle = std::sqrt(low * high);
    }
    const double found = bits_at(static_cast<float>(middle));
    if (found <= bits && found >= bits - slack) return static_cast<float>(middle);
    (found > bits ? low : high) = middle;
    (found > bits ? bits_low : bits_high) = found;
  }
  return static_cast<float>(high);
}

}  // namespace fedctl::codec::detail

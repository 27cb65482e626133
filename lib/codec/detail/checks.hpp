// What every codec asks of its input: finite values when encoding, the right length when decoding.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "codec/codec.hpp"

namespace fedctl::codec::detail {

// The bits of |value|. As integers they are ordered like the magnitudes, infinities and NaN on top;
// an integer maximum vectorises where a float maximum, for NaN's sake, does not.
inline std::uint32_t magnitude_bits(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7fff'ffffU;
}
inline constexpr std::uint32_t kInfinityBits = 0x7f80'0000U;

// max |value|, 0 for no values. Throws WireError naming the first value that is not finite, counted
// from `first_index`.
inline float largest_magnitude(std::span<const float> values, std::size_t first_index = 0) {
  std::uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, magnitude_bits(value));
  if (largest >= kInfinityBits) {
    const auto bad = std::find_if_not(values.begin(), values.end(),
                                      [](float value) { return std::isfinite(value); });
    throw WireError("value " +
                    std::to_string(first_index + static_cast<std::size_t>(bad - values.begin())) +
                    " is " + std::to_string(*bad) + ", only finite values can be encoded");
  }
  return std::bit_cast<float>(largest);
}

inline void expect_bytes(const char* codec, ByteView encoded, std::size_t wanted) {
  if (encoded.size() != wanted) {
    throw WireError(std::string(codec) + ": " + std::to_string(encoded.size()) +
                    " bytes, expected " + std::to_string(wanted));
  }
}

// max(1, round(ratio * count)), at most all.
inline std::size_t share_of(double ratio, std::size_t count) {
  const auto rounded = static_cast<std::size_t>(std::llround(ratio * static_cast<double>(count)));
  return std::min(count, std::max<std::size_t>(1, rounded));
}

// Counts of the blocks that hold a value.
inline std::vector<std::size_t> filled(Blocks blocks) {
  std::vector<std::size_t> counts;
  for (const std::size_t count : blocks) {
    if (count > 0) counts.push_back(count);
  }
  return counts;
}

inline std::size_t value_count(Blocks blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), std::size_t{0});
}

}  // namespace fedctl::codec::detail

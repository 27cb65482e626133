// Uniform cells with a dead zone, and segments of them that share a table of an entropy coder.
//
// A value x becomes the level sign(x) floor(|x| / step + 0.45): the cell of 0 is 1.1 steps wide,
// the others one. (0.05 more than rounding: at most 0.6 % more error on normally distributed
// values, up to 1 % less on Laplace's and Student's; measured from 0.1 to 4 bits a value.)
//
// Levels that do not fit into 255 numbers are split: the lowest `low_bits` bits of all go raw.
// Segments of 256 values are sorted into classes by the sum of their magnitudes, if that is
// shorter: parts of a vector that are larger than others then get probabilities of their own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace fedctl::codec::detail {

inline constexpr std::size_t kSegment = 256;
inline constexpr unsigned kClasses = 8;
inline constexpr std::int32_t kHighMax = 127;  // of a level without its low bits
inline constexpr unsigned kLowBitsMax = 16;

// Precondition: |values| / step < 2^23.
void to_levels(std::span<const float> values, float step, std::span<std::int32_t> levels);

// The smallest number of low bits that leaves levels up to kHighMax. Precondition: below 2^23.
unsigned low_bits_of(std::span<const std::int32_t> levels);

// 0 for a segment of zeros, else rising with the sum of |level >> low_bits|.
std::uint8_t class_of(std::span<const std::int32_t> segment, unsigned low_bits);

struct Size {
  std::uint64_t bits_q16 = 0;  // times 65536
  bool classes = false;        // whether classes make it shorter
};
// What the levels take at their entropies, low bits and a guess of the tables included.
Size size_of(std::span<const std::int32_t> levels, unsigned low_bits);

// In squared steps, when every level decodes to the centroid that auto sends for it.
struct Lost {
  double squares = 0;
  double norm = 0;  // of the values
};
Lost lost_by(std::span<const float> values, std::span<const std::int32_t> levels, float step);

// What a search of the step aims at.
struct Target {
  double bits_per_value = 1;
  double distortion = 0;  // if above 0: the share of |x|^2 that is lost, in place of the bits
};
// The step that comes closest, found on at most 128 segments; 0 if `largest`, the largest
// magnitude, is 0 or too small to be divided.
float find_step(std::span<const float> values, float largest, const Target& target);

// find_step() guesses what a message takes beside its levels, which is most of a short one. This
// asks `bits_at`, the bits of the real message at a step: `step` itself if that is within 0.3 %
// of `bits`, else the finest step that was found with at most `bits`; if there is none the coarsest
// that leaves one level that is not 0. The last call of bits_at is not always that of the result.
float fit_step(float step, float largest, double bits,
               const std::function<double(float step)>& bits_at);

}  // namespace fedctl::codec::detail

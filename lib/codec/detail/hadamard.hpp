// A seeded random rotation: random signs, then the orthonormal Walsh-Hadamard transform, in blocks.
// It makes the values of any vector look normally distributed (Suresh, Yu, Kumar, McMahan,
// "Distributed mean estimation with limited communication", ICML 2017, section 3).
//
// Every machine computes the same bytes: the AVX2 path, chosen at run time, does the additions of
// the scalar one in the same tree, without fused operations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedctl::codec::detail {

enum class Path { fastest, scalar };

// values <- H values, H the symmetric orthonormal Hadamard matrix, so twice is the identity.
// Precondition: a power of two of values. Magnitudes up to FLT_MAX / count cannot overflow.
void hadamard(std::span<float> values, Path path = Path::fastest);

// Turns bit j of word k into the sign of value 64 k + j (1 is minus), for the words of SplitMix64
// from state `seed`, the first one number `first_word`. Twice is the identity. Precondition: a
// multiple of 64 values.
void flip_signs(std::span<float> values, std::uint64_t seed, std::uint64_t first_word,
                Path path = Path::fastest);

// The rotation of `count` values by 1 or 2 rounds of signs and transform. Two, because one leaves a
// vector of few large values far from normal: its low-bit quantisation is then biased.
//
// Where: blocks of 2^13 values (32 KiB: a level 1 cache; a float32 scale for each is 0.004 bit a
// value), the rest as the powers of two in its binary expansion, down to 256. What is left then,
// fewer than 256 values, is turned together with the values before it: as the last 256 of the
// vector, after all others. So nothing is padded and nothing stays as it was, but a vector of fewer
// than 256 values, which is not touched at all.
class Rotation {
 public:
  static constexpr std::size_t kBlock = 8192;
  static constexpr std::size_t kBlockMin = 256;
  // Of larger magnitudes the sums before the factor (2^13 times as large) might overflow.
  static constexpr float kMagnitudeMax = 0x1p113F;
  // A codec refuses larger magnitudes: it leaves room for the norm of a block and for scales.
  static constexpr float kInputMax = 0x1p96F;

  Rotation(std::size_t count, unsigned rounds);

  // Whether anything is turned, and so the seed matters.
  bool turns() const { return count_ >= kBlockMin; }
  // The rotated values in groups whose values have one variance each; at most kBlock values, none
  // empty. What cannot be rotated is one group.
  const std::vector<std::size_t>& groups() const { return groups_; }

  // Throws WireError if a value is not finite or beyond kInputMax and would be turned.
  void check_input(std::span<const float> values) const;
  // Precondition of both: values.size() is the count; magnitudes up to kMagnitudeMax.
  void rotate(std::span<float> values, std::uint64_t seed, Path path = Path::fastest) const;
  void unrotate(std::span<float> values, std::uint64_t seed, Path path = Path::fastest) const;

 private:
  struct Step {
    std::size_t first;
    std::size_t count;
    std::uint64_t first_word;  // of the signs
  };

  std::size_t count_;
  unsigned rounds_;
  std::vector<Step> steps_;
  std::vector<std::size_t> groups_;
};

}  // namespace fedctl::codec::detail

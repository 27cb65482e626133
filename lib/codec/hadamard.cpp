// The transform runs in passes over a block that fits the level 1 cache: six stages on 64 values in
// registers, then up to three stages a pass. Each value is the same tree of sums on both paths.

#include "codec/detail/hadamard.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/assert.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/splitmix64.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fedctl::codec::detail {
namespace {

constexpr std::size_t kCached = Rotation::kBlock;

// count^(-1/2) of a power of two.
float orthonormal(std::size_t count) {
  const int log = std::countr_zero(count);
  return std::ldexp(log % 2 == 0 ? 1.0F : 0x1.6a09e6p-1F, -(log / 2));
}

// Stages of distance first, 2 first, ... below `end`.
void stages_scalar(float* values, std::size_t count, std::size_t first, std::size_t end) {
  for (std::size_t distance = first; distance < end; distance *= 2) {
    for (std::size_t block = 0; block < count; block += 2 * distance) {
      for (std::size_t i = block; i < block + distance; ++i) {
        const float low = values[i];
        const float high = values[i + distance];
        values[i] = low + high;
        values[i + distance] = low - high;
      }
    }
  }
}

void hadamard_scalar(std::span<float> values) {
  const std::size_t cached = std::min(values.size(), kCached);
  for (std::size_t first = 0; first < values.size(); first += cached) {
    stages_scalar(values.data() + first, cached, 1, cached);
  }
  stages_scalar(values.data(), values.size(), cached, values.size());
  const float factor = orthonormal(values.size());
  for (float& value : values) value *= factor;
}

void flip_signs_scalar(std::span<float> values, std::uint64_t seed, std::uint64_t first_word) {
  for (std::size_t i = 0; i < values.size(); i += 64) {
    const std::uint64_t word = splitmix64(seed, first_word + i / 64);
    for (std::size_t j = 0; j < 64; ++j) {
      const auto sign = static_cast<std::uint32_t>((word >> j) & 1) << 31;
      values[i + j] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(values[i + j]) ^ sign);
    }
  }
}

#if defined(__x86_64__)
#define FEDCTL_AVX2 __attribute__((target("avx2")))
#define FEDCTL_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

// Three stages within a vector: x0 + x1, x0 - x1 as (x1, x0) + (x0, -x1), which is the same number.
FEDCTL_AVX2_INLINE __m256 stages_within(__m256 x) {
  const __m256 minus1 = _mm256_setr_ps(0, -0.0F, 0, -0.0F, 0, -0.0F, 0, -0.0F);
  const __m256 minus2 = _mm256_setr_ps(0, 0, -0.0F, -0.0F, 0, 0, -0.0F, -0.0F);
  const __m256 minus4 = _mm256_setr_ps(0, 0, 0, 0, -0.0F, -0.0F, -0.0F, -0.0F);
  x = _mm256_add_ps(_mm256_permute_ps(x, 0b10'11'00'01), _mm256_xor_ps(x, minus1));
  x = _mm256_add_ps(_mm256_permute_ps(x, 0b01'00'11'10), _mm256_xor_ps(x, minus2));
  return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, minus4));
}

// log2(kRadix) stages across vectors. The trip counts are constants, so that all is unrolled and x
// stays in registers.
template <std::size_t kRadix>
FEDCTL_AVX2_INLINE void stages_across(__m256* x) {
  for (std::size_t stage = 0; stage < std::bit_width(kRadix) - 1; ++stage) {
#pragma GCC unroll 8
    for (std::size_t pair = 0; pair < kRadix / 2; ++pair) {
      const std::size_t distance = std::size_t{1} << stage;
      const std::size_t i = 2 * pair - pair % distance;
      const __m256 low = x[i];
      const __m256 high = x[i + distance];
      x[i] = _mm256_add_ps(low, high);
      x[i + distance] = _mm256_sub_ps(low, high);
    }
  }
}

FEDCTL_AVX2 void first_six_stages(float* values, std::size_t count) {
  for (std::size_t first = 0; first < count; first += 64) {
    __m256 x[8];
    for (std::size_t i = 0; i < 8; ++i) {
      x[i] = stages_within(_mm256_loadu_ps(values + first + 8 * i));
    }
    stages_across<8>(x);
    for (std::size_t i = 0; i < 8; ++i) _mm256_storeu_ps(values + first + 8 * i, x[i]);
  }
}

// The stages of distance `distance` to kRadix / 2 times that, and a factor.
template <std::size_t kRadix>
FEDCTL_AVX2 void pass(float* values, std::size_t count, std::size_t distance, float factor) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (std::size_t block = 0; block < count; block += kRadix * distance) {
    for (std::size_t first = block; first < block + distance; first += 8) {
      __m256 x[kRadix];
      for (std::size_t i = 0; i < kRadix; ++i) {
        x[i] = _mm256_loadu_ps(values + first + i * distance);
      }
      stages_across<kRadix>(x);
      for (std::size_t i = 0; i < kRadix; ++i) {
        _mm256_storeu_ps(values + first + i * distance, _mm256_mul_ps(x[i], factors));
      }
    }
  }
}

// The stages of distance `first` to `end` / 2; the last pass multiplies by the factor.
void passes_avx2(float* values, std::size_t count, std::size_t first, std::size_t end,
                 float factor) {
  for (std::size_t distance = first; distance < end;) {
    const int left = std::countr_zero(end) - std::countr_zero(distance);
    const int stages = left == 4 ? 2 : std::min(left, 3);
    const float now = stages == left ? factor : 1;
    if (stages == 3) pass<8>(values, count, distance, now);
    if (stages == 2) pass<4>(values, count, distance, now);
    if (stages == 1) pass<2>(values, count, distance, now);
    distance <<= stages;
  }
}

void hadamard_avx2(std::span<float> values) {
  const float factor = orthonormal(values.size());
  const bool fits = values.size() <= kCached;
  const std::size_t cached = fits ? values.size() : kCached;
  for (std::size_t first = 0; first < values.size(); first += cached) {
    first_six_stages(values.data() + first, cached);
    passes_avx2(values.data() + first, cached, 64, cached, fits ? factor : 1);
  }
  passes_avx2(values.data(), values.size(), cached, values.size(), factor);
}

FEDCTL_AVX2 void flip_signs_avx2(std::span<float> values, std::uint64_t seed,
                                 std::uint64_t first_word) {
  const __m256i to_top = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
  const __m256 minus = _mm256_set1_ps(-0.0F);
  for (std::size_t i = 0; i < values.size(); i += 64) {
    const std::uint64_t word = splitmix64(seed, first_word + i / 64);
    for (std::size_t j = 0; j < 64; j += 8) {
      float* const at = values.data() + i + j;
      const __m256i byte = _mm256_set1_epi32(static_cast<int>((word >> j) & 0xff));
      const __m256 signs =
          _mm256_and_ps(_mm256_castsi256_ps(_mm256_sllv_epi32(byte, to_top)), minus);
      _mm256_storeu_ps(at, _mm256_xor_ps(_mm256_loadu_ps(at), signs));
    }
  }
}

bool avx2(Path path) {
  static const bool supported = __builtin_cpu_supports("avx2") != 0;
  return supported && path == Path::fastest;
}
#endif

}  // namespace

void hadamard(std::span<float> values, Path path) {
  FEDCTL_ASSERT(std::has_single_bit(values.size()));
#if defined(__x86_64__)
  if (avx2(path) && values.size() > 64) return hadamard_avx2(values);
#endif
  static_cast<void>(path);
  hadamard_scalar(values);
}

void flip_signs(std::span<float> values, std::uint64_t seed, std::uint64_t first_word, Path path) {
  FEDCTL_ASSERT(values.size() % 64 == 0);
#if defined(__x86_64__)
  if (avx2(path)) return flip_signs_avx2(values, seed, first_word);
#endif
  static_cast<void>(path);
  flip_signs_scalar(values, seed, first_word);
}

Rotation::Rotation(std::size_t count, unsigned rounds) : count_(count), rounds_(rounds) {
  FEDCTL_ASSERT(rounds == 1 || rounds == 2);
  std::uint64_t word = 0;
  const auto add = [&](std::size_t first, std::size_t size) {
    steps_.push_back({first, size, word});
    groups_.push_back(size);
    word += rounds * (size / 64);
  };
  std::size_t first = 0;
  for (std::size_t size = kBlock; size >= kBlockMin; size /= 2) {
    for (; count - first >= size; first += size) add(first, size);
  }
  const std::size_t left = count - first;
  if (left == 0) return;
  if (!turns()) {
    groups_.push_back(left);
    return;
  }
  groups_.back() -= kBlockMin - left;
  if (groups_.back() == 0) groups_.pop_back();
  add(count - kBlockMin, kBlockMin);
}

void Rotation::check_input(std::span<const float> values) const {
  const float largest = largest_magnitude(values);
  if (turns() && largest > kInputMax) {
    throw WireError("a value has magnitude " + std::to_string(largest) +
                    ", a rotation takes up to 2^96");
  }
}

void Rotation::rotate(std::span<float> values, std::uint64_t seed, Path path) const {
  FEDCTL_ASSERT(values.size() == count_);
  for (const Step& step : steps_) {
    const auto block = values.subspan(step.first, step.count);
    for (unsigned round = 0; round < rounds_; ++round) {
      flip_signs(block, seed, step.first_word + round * (step.count / 64), path);
      hadamard(block, path);
    }
  }
}

void Rotation::unrotate(std::span<float> values, std::uint64_t seed, Path path) const {
  FEDCTL_ASSERT(values.size() == count_);
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    const auto block = values.subspan(step->first, step->count);
    for (unsigned round = rounds_; round-- > 0;) {
      hadamard(block, path);
      flip_signs(block, seed, step->first_word + round * (step->count / 64), path);
    }
  }
}

}  // namespace fedctl::codec::detail

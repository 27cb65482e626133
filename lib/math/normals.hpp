// Standard normals by name: the i-th value of the direction `key`, for any i, in any order, the
// same on every machine. For methods that send a seed in place of a vector.
//
// Word w of Philox4x32-10's block c under `key` (base/rng.hpp: counter {c, 0, 0}) belongs to value
// i = 256 (c / 64) + 64 w + c % 64, so that 64 blocks fill 256 values side by side. Words 0 and
// 1 give values w = 0 and 1 by Box-Muller, words 2 and 3 the other two:
//   u = (a / 2^8 + 1) 2^-24, r = sqrt(-2 ln u), angle = 2 pi b / 2^32, r cos(angle), r sin(angle)
// in single precision, with logarithm, sine and cosine of our own from exactly rounded operations.
// The largest magnitude is 5.77. Known answers in tests/math/normals_test.cpp.
#pragma once

#include <cstdint>
#include <span>

namespace fedctl::math {

inline constexpr std::size_t kNormalsBlock = 256;

// out[n] = value first + n. Precondition: `first` is a multiple of kNormalsBlock.
void fill_normals(std::uint64_t key, std::size_t first, std::span<float> out);
// out[n] = value positions[n]. Precondition: equal lengths.
void gather_normals(std::uint64_t key, std::span<const std::size_t> positions,
                    std::span<float> out);

// Uniform in (0, 1), in the same order: (a / 2^8 + 1/2) 2^-24 of a value's own word. Precondition: `first` is a multiple of kNormalsBlock.
void fill_uniforms(std::uint64_t key, std::size_t first, std::span<float> out);

}  // namespace fedctl::math

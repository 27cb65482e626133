// Sixteen floats at a time, for the loops that LibTorch has no fused operator for. GCC and Clang
// vector types: the same additions in the same order on every machine, whatever the width of its
// registers, so a sum does not depend on the processor it was made on.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/clones.hpp"

namespace fedctl::learn::loops {

inline constexpr std::int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(64)));
typedef std::int32_t LaneInts __attribute__((vector_size(64)));
typedef float Eight __attribute__((vector_size(32)));

// Loads and stores need no alignment.
FEDCTL_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
FEDCTL_INLINE void store(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof lanes); }
FEDCTL_INLINE Lanes spread(float value) { return Lanes{} + value; }
FEDCTL_INLINE Lanes larger(const Lanes& a, const Lanes& b) { return a > b ? a : b; }

FEDCTL_INLINE float sum_of(const Lanes& lanes) {
  float part[16];
  store(part, lanes);
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) part[i] += part[i + step];
  }
  return part[0];
}
FEDCTL_INLINE float max_of(const Lanes& lanes) {
  float part[16];
  store(part, lanes);
  for (int i = 1; i < 16; ++i) part[0] = part[i] > part[0] ? part[i] : part[0];
  return part[0];
}

// e^x to two units in the last place (Cephes, expf): x = n ln 2 + r with |r| <= ln 2 / 2, a
// polynomial for e^r, then n goes into the exponent. e^88 above 88; NaN stays NaN. 0 below -50: in
// every use it stands beside a number of at least one, next to which 1e-22 is nothing in single
// precision, while its products would become subnormal and a hundred times slower.
FEDCTL_INLINE Lanes exponential(const Lanes& argument) {
  const Lanes high = spread(88.0F), low = spread(-50.0F);
  Lanes x = argument > high ? high : argument;
  x = x < low ? low : x;
  const Lanes round = spread(12582912.0F);  // 1.5 * 2^23: adding it rounds to a whole number
  const Lanes biased = x * 1.44269504088896341F + round;
  const Lanes n = biased - round;
  const Lanes r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  Lanes p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + (r + 1.0F);
  LaneInts bits;
  std::memcpy(&bits, &biased, sizeof bits);
  // The low bits of `biased` are n, plus a constant that the shift and the bias 127 remove.
  bits = (bits + 127) << 23;
  Lanes power;
  std::memcpy(&power, &bits, sizeof power);
  return argument < low ? Lanes{} : p * power;
}

}  // namespace fedctl::learn::loops

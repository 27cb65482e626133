// What the panel loops share beside lanes.hpp.
#pragma once

#include "learn/torch/lanes.hpp"
#include "learn/torch/panels.hpp"

// As FEDCTL_CLONES, with everything AVX-512 (AVX2) machines have; above all FMA.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    defined(__GNUC__) && !defined(__clang__)
#define FEDCTL_WIDE_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FEDCTL_WIDE_CLONES
#endif

namespace fedctl::learn::panels {

using loops::kLanes;
using loops::LaneInts;
using loops::Lanes;
using loops::spread;

// Loads and stores as single moves: a copy of 64 bytes by memcpy() goes over the stack where
// registers are narrower.
typedef float LooseLanes __attribute__((vector_size(64), aligned(4), may_alias));
FEDCTL_INLINE Lanes load(const float* from) { return *reinterpret_cast<const LooseLanes*>(from); }
FEDCTL_INLINE void store(float* to, const Lanes& lanes) {
  *reinterpret_cast<LooseLanes*>(to) = lanes;
}

// 2^x for x <= 0, to one unit in the last place: x = n + r with |r| <= 1/2, the polynomial of least
// largest relative error, 2.6e-9, for 2^r, then n goes into the exponent. 2^-100 below -100.
FEDCTL_INLINE Lanes power_of_two(const Lanes& argument) {
  const Lanes low = spread(-100.0F);
  const Lanes x = argument < low ? low : argument;
  const Lanes round = spread(12582912.0F);  // 1.5 * 2^23: adding it rounds to a whole number
  const Lanes biased = x + round;
  const Lanes r = x - (biased - round);
  Lanes p = r * 1.559467759e-4F + 1.340664391e-3F;
  p = p * r + 9.617692975e-3F;
  p = p * r + 5.550310551e-2F;
  p = p * r + 2.402265278e-1F;
  p = p * r + 6.931472150e-1F;
  p = p * r + 1.0F;
  // The low bits of `biased` are n.
  return reinterpret_cast<Lanes>(reinterpret_cast<LaneInts>(p) +
                                 (reinterpret_cast<LaneInts>(biased) << 23));
}

#define FEDCTL_LAMBDA_INLINE __attribute__((always_inline))

// A whole panel row at a time: two vectors.
struct Pair {
  Lanes low, high;
};
FEDCTL_INLINE Pair load_pair(const float* from) { return {load(from), load(from + kLanes)}; }
FEDCTL_INLINE void store_pair(float* to, const Pair& pair) {
  store(to, pair.low);
  store(to + kLanes, pair.high);
}

}  // namespace fedctl::learn::panels

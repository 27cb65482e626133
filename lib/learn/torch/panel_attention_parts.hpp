// The products of panel_attention.cpp, and where things stand in panels.
#pragma once

#include <algorithm>

#include "learn/torch/panel_lanes.hpp"

namespace fedctl::learn::panels::parts {

typedef float Eight __attribute__((vector_size(32)));

FEDCTL_INLINE std::int64_t padded(std::int64_t width) { return (width + 7) / 8 * 8; }

// Feature `feature` of token `token` in panels of `features`.
FEDCTL_INLINE std::int64_t place(std::int64_t features, std::int64_t feature, std::int64_t token) {
  return (token / kTokens * features + feature) * kTokens + token % kTokens;
}

// Calls use(token, count) for each run of tokens of one panel in [first, last).
template <class Use>
FEDCTL_INLINE void each_run(std::int64_t first, std::int64_t last, const Use& use) {
  while (first < last) {
    const std::int64_t count = std::min(last, (first / kTokens + 1) * kTokens) - first;
    use(first, count);
    first += count;
  }
}

// out[j] = sum over d of lanes[d] * rows[d][j], for kTogether tokens j; out [kTogether, 16].
template <int kTogether>
FEDCTL_INLINE void some_dots(const float* lanes, const float* rows, std::int64_t width,
                             float* out) {
  Lanes sum[kTogether] = {};
  for (std::int64_t d = 0; d < width; ++d, lanes += kTokens, rows += kTokens) {
    const Lanes x = load(lanes);
    for (int j = 0; j < kTogether; ++j) sum[j] += x * rows[j];
  }
  for (int j = 0; j < kTogether; ++j) store(out + j * kLanes, sum[j]);
}
FEDCTL_INLINE void dots(const float* lanes, const float* rows, std::int64_t count,
                        std::int64_t width, float* out) {
  std::int64_t j = 0;
  for (; j + 8 <= count; j += 8) some_dots<8>(lanes, rows + j, width, out + j * kLanes);
  for (; j < count; ++j) some_dots<1>(lanes, rows + j, width, out + j * kLanes);
}

// out[d] += sum over j of weights[j] * rows[d][j], kWide features at a time; out has rows of 32.
template <int kWide>
FEDCTL_INLINE void mix_some(const float* weights, const float* rows, std::int64_t count,
                            float* out) {
  Lanes sum[kWide];
  for (int d = 0; d < kWide; ++d) sum[d] = load(out + d * kTokens);
  for (std::int64_t j = 0; j < count; ++j) {
    const Lanes w = load(weights + j * kLanes);
    for (int d = 0; d < kWide; ++d) sum[d] += w * rows[d * kTokens + j];
  }
  for (int d = 0; d < kWide; ++d) store(out + d * kTokens, sum[d]);
}
FEDCTL_INLINE void mix(const float* weights, const float* rows, std::int64_t count,
                       std::int64_t width, float* out) {
  std::int64_t d = 0;
  for (; d + 8 <= width; d += 8) {
    mix_some<8>(weights, rows + d * kTokens, count, out + d * kTokens);
  }
  for (; d + 2 <= width; d += 2) {
    mix_some<2>(weights, rows + d * kTokens, count, out + d * kTokens);
  }
}

// rows[i] += sum over the sixteen keys j of weights[i][j] * keys[j]; rows [count, step].
FEDCTL_INLINE void scatter(const float* weights, const float* keys, std::int64_t count,
                           std::int64_t step, float* rows) {
  for (std::int64_t d = 0; d < step; d += 8) {
    Eight key[16];
    for (int j = 0; j < 16; ++j) std::memcpy(&key[j], keys + j * step + d, sizeof key[j]);
    for (std::int64_t i = 0; i < count; ++i) {
      const float* const w = weights + i * kLanes;
      float* const to = rows + i * step + d;
      Eight sum[4] = {};
      std::memcpy(&sum[0], to, sizeof sum[0]);
      for (int j = 0; j < 16; ++j) sum[j % 4] += key[j] * w[j];
      sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
      std::memcpy(to, &sum[0], sizeof sum[0]);
    }
  }
}

}  // namespace fedctl::learn::panels::parts

// The parts of attention_loops.cpp: one head of one sequence and one block of sixteen queries at a
// time. "In lanes" means transposed, [n, 16], so that each query has a lane of its own.
#pragma once

#include <vector>

#include "learn/torch/lanes.hpp"
#include "learn/torch/loops.hpp"

namespace fedctl::learn::loops::parts {

constexpr float kNever = -1e30F;  // the score of a key that a query must not see

// Head widths are padded with zeros to a multiple of eight.
FEDCTL_INLINE std::int64_t padded(std::int64_t width) { return (width + 7) / 8 * 8; }

// Rows `first` .. `first + count` of one head into [count, padded], times `scale`, rotated.
FEDCTL_INLINE void take_head(const AttentionShape& shape, const float* rows, std::int64_t stride,
                             std::int64_t first, std::int64_t count, bool rotate, float scale,
                             float* out) {
  const std::int64_t width = shape.head_width, half = width / 2, step = padded(width);
  for (std::int64_t i = 0; i < count; ++i, out += step) {
    const float* row = rows + (first + i) * stride;
    if (rotate && shape.cosine != nullptr) {
      const float* c = shape.cosine + (first + i) * half;
      const float* s = shape.sine + (first + i) * half;
      for (std::int64_t d = 0; d < half; ++d) {
        out[d] = scale * (row[d] * c[d] - row[d + half] * s[d]);
        out[d + half] = scale * (row[d + half] * c[d] + row[d] * s[d]);
      }
    } else {
      for (std::int64_t d = 0; d < width; ++d) out[d] = scale * row[d];
    }
    for (std::int64_t d = width; d < step; ++d) out[d] = 0;
  }
}

// The transpose of take_head: gradients [count, padded] back into rows, turned the other way.
FEDCTL_INLINE void put_head(const AttentionShape& shape, const float* in, std::int64_t stride,
                            std::int64_t first, std::int64_t count, bool rotate, float scale,
                            float* rows) {
  const std::int64_t width = shape.head_width, half = width / 2, step = padded(width);
  for (std::int64_t i = 0; i < count; ++i, in += step) {
    float* row = rows + (first + i) * stride;
    if (rotate && shape.cosine != nullptr) {
      const float* c = shape.cosine + (first + i) * half;
      const float* s = shape.sine + (first + i) * half;
      for (std::int64_t d = 0; d < half; ++d) {
        row[d] = scale * (in[d] * c[d] + in[d + half] * s[d]);
        row[d + half] = scale * (in[d + half] * c[d] - in[d] * s[d]);
      }
    } else {
      for (std::int64_t d = 0; d < width; ++d) row[d] = scale * in[d];
    }
  }
}

// [count <= 16, step] -> [step, 16]; missing rows are zero.
FEDCTL_INLINE void to_lanes(const float* rows, std::int64_t count, std::int64_t step, float* out) {
  for (std::int64_t d = 0; d < step; ++d) {
    for (std::int64_t i = 0; i < kLanes; ++i)
      out[d * kLanes + i] = i < count ? rows[i * step + d] : 0;
  }
}
FEDCTL_INLINE void from_lanes(const float* lanes, std::int64_t count, std::int64_t step,
                              float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t d = 0; d < step; ++d) out[i * step + d] = lanes[d * kLanes + i];
  }
}

// out[j] = sum over d of a[d] * rows[j][d], for `count` rows; a is [step, 16] in lanes.
FEDCTL_INLINE void products(const float* a, const float* rows, std::int64_t count,
                            std::int64_t step, float* out) {
  std::int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const float* row = rows + j * step;
    Lanes sum0{}, sum1{}, sum2{}, sum3{};
    for (std::int64_t d = 0; d < step; ++d) {
      const Lanes x = load(a + d * kLanes);
      sum0 += x * row[d];
      sum1 += x * row[step + d];
      sum2 += x * row[2 * step + d];
      sum3 += x * row[3 * step + d];
    }
    store(out + j * kLanes, sum0);
    store(out + (j + 1) * kLanes, sum1);
    store(out + (j + 2) * kLanes, sum2);
    store(out + (j + 3) * kLanes, sum3);
  }
  for (; j < count; ++j) {
    Lanes sum{};
    for (std::int64_t d = 0; d < step; ++d) sum += load(a + d * kLanes) * rows[j * step + d];
    store(out + j * kLanes, sum);
  }
}

// out[d] = sum over j of weights[j] * rows[j][d]; weights [count, 16] and out [step, 16] in lanes.
FEDCTL_INLINE void mix(const float* weights, const float* rows, std::int64_t count,
                       std::int64_t step, float* out) {
  for (std::int64_t d = 0; d < step; d += 8) {
    Lanes sum[8] = {};
    for (std::int64_t j = 0; j < count; ++j) {
      const Lanes w = load(weights + j * kLanes);
      const float* row = rows + j * step + d;
      for (int u = 0; u < 8; ++u) sum[u] += w * row[u];
    }
    for (int u = 0; u < 8; ++u) store(out + (d + u) * kLanes, sum[u]);
  }
}

// out[j] += sum over the sixteen queries i of weights[j][i] * rows[i]; rows [16, step], out [count,
// step].
FEDCTL_INLINE void scatter(const float* weights, const float* rows, std::int64_t count,
                           std::int64_t step, float* out) {
  for (std::int64_t d = 0; d < step; d += 8) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float* w = weights + j * kLanes;
      Eight even, odd{};
      std::memcpy(&even, out + j * step + d, sizeof even);
      for (std::int64_t i = 0; i < kLanes; i += 2) {
        Eight first, second;
        std::memcpy(&first, rows + i * step + d, sizeof first);
        std::memcpy(&second, rows + (i + 1) * step + d, sizeof second);
        even += first * w[i];
        odd += second * w[i + 1];
      }
      even += odd;
      std::memcpy(out + j * step + d, &even, sizeof even);
    }
  }
}

// Buffers for one head and one block of queries; `step` is the padded head width.
struct Scratch {
  std::int64_t step;
  std::vector<float> memory;
  float *keys, *values, *d_keys, *d_values;        // [length, step]
  float *scores, *d_scores;                        // [length, 16]
  float *rows, *d_rows, *lanes, *d_lanes, *mixed;  // [16, step] or [step, 16]

  explicit Scratch(const AttentionShape& shape) : step(padded(shape.head_width)) {
    const std::int64_t whole = shape.length * step, across = shape.length * kLanes;
    const std::int64_t block = kLanes * step;
    memory.resize(static_cast<std::size_t>(4 * whole + 2 * across + 5 * block));
    float* at = memory.data();
    for (float** part : {&keys, &values, &d_keys, &d_values}) at = (*part = at) + whole;
    for (float** part : {&scores, &d_scores}) at = (*part = at) + across;
    for (float** part : {&rows, &d_rows, &lanes, &d_lanes, &mixed}) at = (*part = at) + block;
  }
};

// Hides the keys that a query must not see: key j from query first + i if j > first + i.
FEDCTL_INLINE void hide_later(std::int64_t first, std::int64_t keys, float* scores) {
  LaneInts lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  for (std::int64_t j = first; j < keys; ++j) {
    const LaneInts later = lane < static_cast<std::int32_t>(j - first);
    store(scores + j * kLanes, later ? spread(kNever) : load(scores + j * kLanes));
  }
}

// Scores of the queries in s.lanes against the first `keys` keys.
FEDCTL_INLINE void score(const AttentionShape& shape, std::int64_t first, std::int64_t keys,
                         Scratch& s) {
  products(s.lanes, s.keys, keys, s.step, s.scores);
  if (shape.causal) hide_later(first, keys, s.scores);
}

// Softmax of s.scores in place, not yet divided by its sum, and the largest score and the sum.
FEDCTL_INLINE void soften(std::int64_t keys, Scratch& s, Lanes& most, Lanes& sum) {
  most = spread(kNever);
  sum = Lanes{};
  for (std::int64_t j = 0; j < keys; ++j) most = larger(load(s.scores + j * kLanes), most);
  for (std::int64_t j = 0; j < keys; ++j) {
    const Lanes p = exponential(load(s.scores + j * kLanes) - most);
    sum += p;
    store(s.scores + j * kLanes, p);
  }
}

// s.scores becomes P, s.d_scores dS = P * (dP - D), with dP = dO V^T already in s.d_scores and
// D = rowsum(dO * O) (FlashAttention, equation 4 of its appendix B.2). Lanes from `count` on are no
// queries and get zeros.
FEDCTL_INLINE void soften_backward(std::int64_t keys, std::int64_t count, const Lanes& most,
                                   const Lanes& one_over, const Lanes& d, Scratch& s) {
  LaneInts lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const LaneInts real = lane < static_cast<std::int32_t>(count);
  for (std::int64_t j = 0; j < keys; ++j) {
    float* const p_at = s.scores + j * kLanes;
    float* const d_at = s.d_scores + j * kLanes;
    const Lanes all = exponential(load(p_at) - most) * one_over;
    const Lanes p = real ? all : Lanes{};
    store(p_at, p);
    store(d_at, p * (load(d_at) - d));
  }
}

// Where a head's rows begin and how far apart they are.
struct Place {
  std::int64_t q, kv, q_stride, kv_stride, statistics;
  bool new_keys;  // the first head of its group
  bool last;      // the last of its group

  FEDCTL_INLINE Place(const AttentionShape& shape, std::int64_t head) {
    const std::int64_t n = head / shape.heads, h = head % shape.heads;
    const std::int64_t group = shape.heads / shape.kv_heads;
    q_stride = shape.heads * shape.head_width;
    kv_stride = shape.kv_heads * shape.head_width;
    q = n * shape.length * q_stride + h * shape.head_width;
    kv = n * shape.length * kv_stride + h / group * shape.head_width;
    statistics = head * shape.length;
    new_keys = h % group == 0;
    last = h % group == group - 1;
  }
};

}  // namespace fedctl::learn::loops::parts

// Forward, sixteen queries stand in the lanes and the loop runs over their keys; backward, sixteen
// keys and the loop runs over their queries, so that the gradients by keys and values need no sum
// across lanes. Only those by queries do.
#include "learn/torch/panel_attention.hpp"

#include <algorithm>

#include "learn/torch/panel_attention_parts.hpp"

namespace fedctl::learn::panels {

using namespace parts;

namespace {

constexpr float kNever = -1e30F;  // the score of a key that a query must not see

FEDCTL_INLINE LaneInts load_ints(const std::int32_t* from) {
  LaneInts ints;
  std::memcpy(&ints, from, sizeof ints);
  return ints;
}
FEDCTL_INLINE LaneInts counting(std::int64_t first) {
  LaneInts ints;
  for (int i = 0; i < kLanes; ++i) ints[i] = static_cast<std::int32_t>(first) + i;
  return ints;
}

// All ones where a lane is negative, and a where that is, else b: shifts and masks, because GCC 12
// takes comparisons of whole vectors apart in some of these functions.
FEDCTL_INLINE LaneInts negative(const LaneInts& lanes) { return lanes >> 31; }
FEDCTL_INLINE Lanes either(const LaneInts& mask, const Lanes& a, const Lanes& b) {
  return reinterpret_cast<Lanes>((mask & reinterpret_cast<LaneInts>(a)) |
                                 (~mask & reinterpret_cast<LaneInts>(b)));
}

// Puts `value` where one of the sixteen queries from `first` on must not see a key; scores are of
// the keys from start[first] on.
FEDCTL_INLINE void hide(const AttentionShape& s, std::int64_t first, float value, float* scores) {
  const LaneInts start = load_ints(s.start + first), self = counting(first);
  const auto keys = static_cast<std::int32_t>(s.start[first]);
  const auto from = static_cast<std::int32_t>(first);
  const auto one = [&](std::int32_t key) FEDCTL_LAMBDA_INLINE {
    float* const at = scores + (key - keys) * kLanes;
    store(at, either(negative((key - start) | (self - key)), spread(value), load(at)));
  };
  // Before the last query's text begins, and from the queries on.
  for (std::int32_t key = keys; key < std::min(from, s.start[first + kLanes - 1]); ++key) one(key);
  for (std::int32_t key = from; key < from + kLanes; ++key) one(key);
}

struct Softmax {
  Lanes most, sum;
};
// Of scores [keys, 16] in place, not yet divided by its sum.
FEDCTL_INLINE Softmax soften(std::int64_t keys, float* scores) {
  Lanes most = load(scores), sum{};
  for (std::int64_t j = 1; j < keys; ++j) {
    const Lanes x = load(scores + j * kLanes);
    most = x > most ? x : most;
  }
  for (std::int64_t j = 0; j < keys; ++j) {
    const Lanes p = power_of_two(load(scores + j * kLanes) - most);
    sum += p;
    store(scores + j * kLanes, p);
  }
  return {most, sum};
}

// What one block of keys sees of the queries [first, last) of head h: P into `scores`, which holds
// the scores, and dS = P * (dP - D) into `slopes`, which holds dP.
FEDCTL_INLINE void soften_backward(const AttentionShape& s, std::int64_t h, std::int64_t first,
                                   std::int64_t last, const float* peak, const float* inverse,
                                   const float* sums, float* scores, float* slopes) {
  const LaneInts self = counting(first), end = load_ints(s.end + first);
  const auto one = [&](std::int64_t i, bool masked) FEDCTL_LAMBDA_INLINE {
    const std::int64_t at = place(s.heads, h, i);
    float* const p_at = scores + (i - first) * kLanes;
    float* const d_at = slopes + (i - first) * kLanes;
    Lanes p = power_of_two(load(p_at) - peak[at]) * inverse[at];
    if (masked) {
      const auto query = static_cast<std::int32_t>(i);
      p = either(negative((query - self) | (end - 1 - query)), Lanes{}, p);
    }
    store(p_at, p);
    store(d_at, p * (load(d_at) - sums[at]));
  };
  const std::int64_t diagonal = std::min(first + kLanes, last);
  const std::int64_t all = std::max<std::int64_t>(s.end[first], diagonal);
  for (std::int64_t i = first; i < diagonal; ++i) one(i, true);
  for (std::int64_t i = diagonal; i < all; ++i) one(i, false);
  for (std::int64_t i = all; i < last; ++i) one(i, true);
}

// D = rowsum(dO * O), [panels][heads].
FEDCTL_INLINE void row_sums(const AttentionShape& s, const float* out, const float* d_out,
                            float* sums) {
  for (std::int64_t row = 0; row < s.tokens / kTokens * s.heads; ++row) {
    Pair sum{};
    for (std::int64_t d = 0; d < s.width; ++d, out += kTokens, d_out += kTokens) {
      const Pair a = load_pair(out), b = load_pair(d_out);
      sum.low += a.low * b.low;
      sum.high += a.high * b.high;
    }
    store_pair(sums + row * kTokens, sum);
  }
}

// Buffers of the backward pass.
struct Scratch {
  float *scores, *slopes;  // [tokens, 16]
  float* sums;             // [panels][heads]
  float* d_q;              // [heads of a group][tokens, step]
  float* keys;             // [16, step]

  Scratch(const AttentionShape& s, float* at)
      : scores(at),
        slopes(scores + s.tokens * kLanes),
        sums(slopes + s.tokens * kLanes),
        d_q(sums + s.tokens * s.heads),
        keys(d_q + s.heads / s.kv_heads * s.tokens * padded(s.width)) {}
};

// The keys of the block from `first` on as rows.
FEDCTL_INLINE void take_keys(const float* lanes, std::int64_t width, std::int64_t step,
                             float* keys) {
  for (std::int64_t d = 0; d < width; ++d) {
    for (std::int64_t j = 0; j < kLanes; ++j) keys[j * step + d] = lanes[d * kTokens + j];
  }
}

// Head h's gradients by its queries, [tokens, step], into d_qkv.
FEDCTL_INLINE void put_queries(const AttentionShape& s, std::int64_t h, const float* rows,
                               float* d_qkv) {
  const std::int64_t step = padded(s.width);
  for (std::int64_t token = 0; token < s.tokens; token += kTokens, rows += kTokens * step) {
    float* const to = d_qkv + place(s.features(), h * s.width, token);
    for (std::int64_t d = 0; d < s.width; ++d) {
      for (std::int64_t t = 0; t < kTokens; ++t) to[d * kTokens + t] = rows[t * step + d];
    }
  }
}

// The sixteen keys from `first` on of key/value head g with all their queries.
FEDCTL_INLINE void one_block(const AttentionShape& s, std::int64_t g, std::int64_t first,
                             const float* qkv, const float* peak, const float* inverse,
                             const float* d_out, const Scratch& scratch, float* d_qkv) {
  const std::int64_t group = s.heads / s.kv_heads, step = padded(s.width), all = s.features();
  const std::int64_t last = s.end[first + kLanes - 1];
  const std::int64_t key = place(all, (s.heads + g) * s.width, first);
  const std::int64_t value = place(all, (s.heads + s.kv_heads + g) * s.width, first);
  take_keys(qkv + key, s.width, step, scratch.keys);
  for (std::int64_t d = 0; d < s.width; ++d) {
    store(d_qkv + key + d * kTokens, Lanes{});
    store(d_qkv + value + d * kTokens, Lanes{});
  }
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
    each_run(first, last, [&](std::int64_t i, std::int64_t count) FEDCTL_LAMBDA_INLINE {
      const std::int64_t at = (i - first) * kLanes;
      dots(qkv + key, qkv + place(all, h * s.width, i), count, s.width, scratch.scores + at);
      dots(qkv + value, d_out + place(s.heads * s.width, h * s.width, i), count, s.width,
           scratch.slopes + at);
    });
    soften_backward(s, h, first, last, peak, inverse, scratch.sums, scratch.scores, scratch.slopes);
    each_run(first, last, [&](std::int64_t i, std::int64_t count) FEDCTL_LAMBDA_INLINE {
      const std::int64_t at = (i - first) * kLanes;
      mix(scratch.slopes + at, qkv + place(all, h * s.width, i), count, s.width, d_qkv + key);
      mix(scratch.scores + at, d_out + place(s.heads * s.width, h * s.width, i), count, s.width,
          d_qkv + value);
    });
    scatter(scratch.slopes, scratch.keys, last - first, step,
            scratch.d_q + ((h - g * group) * s.tokens + first) * step);
  }
}

}  // namespace

std::int64_t AttentionShape::scratch_floats() const {
  const std::int64_t step = padded(width);
  return tokens * (2 * kLanes + heads + heads / kv_heads * step) + kLanes * step;
}

FEDCTL_WIDE_CLONES
void attention_forward(const AttentionShape& s, const float* qkv, float* scratch, float* out,
                       float* peak, float* inverse) {
  const std::int64_t all = s.features(), group = s.heads / s.kv_heads;
  for (std::int64_t h = 0; h < s.heads; ++h) {
    const std::int64_t key = (s.heads + h / group) * s.width, value = key + s.kv_heads * s.width;
    for (std::int64_t first = 0; first < s.tokens; first += kLanes) {
      const std::int64_t from = s.start[first], last = first + kLanes;
      const float* const query = qkv + place(all, h * s.width, first);
      float* const to = out + place(s.heads * s.width, h * s.width, first);
      each_run(from, last, [&](std::int64_t j, std::int64_t count) FEDCTL_LAMBDA_INLINE {
        dots(query, qkv + place(all, key, j), count, s.width, scratch + (j - from) * kLanes);
      });
      hide(s, first, kNever, scratch);
      const Softmax softmax = soften(last - from, scratch);
      hide(s, first, 0, scratch);
      for (std::int64_t d = 0; d < s.width; ++d) store(to + d * kTokens, Lanes{});
      each_run(from, last, [&](std::int64_t j, std::int64_t count) FEDCTL_LAMBDA_INLINE {
        mix(scratch + (j - from) * kLanes, qkv + place(all, value, j), count, s.width, to);
      });
      const Lanes one_over = 1.0F / softmax.sum;
      for (std::int64_t d = 0; d < s.width; ++d) {
        store(to + d * kTokens, load(to + d * kTokens) * one_over);
      }
      store(peak + place(s.heads, h, first), softmax.most);
      store(inverse + place(s.heads, h, first), one_over);
    }
  }
}

FEDCTL_WIDE_CLONES
void attention_backward(const AttentionShape& s, const float* qkv, const float* out,
                        const float* peak, const float* inverse, const float* d_out, float* buffer,
                        float* d_qkv) {
  const std::int64_t group = s.heads / s.kv_heads, step = padded(s.width);
  const Scratch scratch(s, buffer);
  row_sums(s, out, d_out, scratch.sums);
  std::fill_n(scratch.keys, kLanes * step, 0.0F);
  for (std::int64_t g = 0; g < s.kv_heads; ++g) {
    std::fill_n(scratch.d_q, group * s.tokens * step, 0.0F);
    for (std::int64_t first = 0; first < s.tokens; first += kLanes) {
      one_block(s, g, first, qkv, peak, inverse, d_out, scratch, d_qkv);
    }
    for (std::int64_t h = 0; h < group; ++h) {
      put_queries(s, g * group + h, scratch.d_q + h * s.tokens * step, d_qkv);
    }
  }
}

}  // namespace fedctl::learn::panels

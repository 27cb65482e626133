// Norms, gates, rotations and the loss of one panel, each row two vectors of sixteen tokens.
#include <algorithm>
#include <cmath>

#include "learn/torch/panel_lanes.hpp"
#include "learn/torch/panels.hpp"

namespace fedctl::learn::panels {
namespace {

FEDCTL_INLINE Lanes root_of(const Lanes& x) {
  Lanes root;
  for (int i = 0; i < kLanes; ++i) root[i] = __builtin_sqrtf(x[i]);
  return root;
}

FEDCTL_INLINE Lanes sigmoid(const Lanes& x) {
  const Lanes e = power_of_two((x < 0.0F ? x : -x) * kLog2E);
  return (x < 0.0F ? e : spread(1.0F)) / (1.0F + e);
}

// The largest logit of each of sixteen tokens, and the first class that has it.
FEDCTL_INLINE void find_largest(std::int64_t classes, const float* logits, Lanes& most,
                                LaneInts& first) {
  most = load(logits);
  first = LaneInts{};
  for (std::int64_t c = 1; c < classes; ++c) {
    const Lanes x = load(logits + c * kTokens);
    first = x > most ? LaneInts{} + static_cast<std::int32_t>(c) : first;
    most = x > most ? x : most;
  }
}

FEDCTL_INLINE void score(std::int64_t first_token, const float* logits, const std::int32_t* labels,
                         const Lanes& most, const Lanes& sum, const LaneInts& first,
                         Losses& losses) {
  for (int i = 0; i < kLanes; ++i) {
    const std::int64_t t = first_token + i;
    losses.loss[t] = 0;
    losses.correct[t] = labels[t] == first[i];
    if (labels[t] == kNone) continue;
    losses.loss[t] = std::log(static_cast<double>(sum[i])) + static_cast<double>(most[i]) -
                     static_cast<double>(logits[labels[t] * kTokens + t]);
  }
}

void add_smoothing(std::int64_t classes, const float* logits, const std::int32_t* labels,
                   double smoothing, Losses& losses) {
  double sums[kTokens] = {};
  for (std::int64_t c = 0; c < classes; ++c) {
    for (std::int64_t t = 0; t < kTokens; ++t) {
      sums[t] += static_cast<double>(logits[c * kTokens + t]);
    }
  }
  for (std::int64_t t = 0; t < kTokens; ++t) {
    if (labels[t] == kNone) continue;
    const auto label = static_cast<double>(logits[labels[t] * kTokens + t]);
    losses.loss[t] += smoothing * (label - sums[t] / static_cast<double>(classes));
  }
}

}  // namespace

FEDCTL_WIDE_CLONES
void norm_forward(std::int64_t width, const float* x, const float* weight, float eps, float* y,
                  float* inverse) {
  for (std::int64_t at = 0; at < kTokens; at += kLanes) {
    Lanes even{}, odd{};
    std::int64_t f = 0;
    for (; f + 2 <= width; f += 2) {
      const Lanes a = load(x + f * kTokens + at), b = load(x + (f + 1) * kTokens + at);
      even += a * a;
      odd += b * b;
    }
    if (f < width) even += load(x + f * kTokens + at) * load(x + f * kTokens + at);
    const Lanes factor = 1.0F / root_of((even + odd) / static_cast<float>(width) + eps);
    store(inverse + at, factor);
    for (f = 0; f < width; ++f) {
      store(y + f * kTokens + at, load(x + f * kTokens + at) * factor * weight[f]);
    }
  }
}

FEDCTL_WIDE_CLONES
void norm_again(std::int64_t width, const float* x, const float* weight, const float* inverse,
                float* y) {
  const Pair factor = load_pair(inverse);
  for (std::int64_t f = 0; f < width; ++f) {
    const Pair row = load_pair(x + f * kTokens);
    store_pair(y + f * kTokens,
               {row.low * factor.low * weight[f], row.high * factor.high * weight[f]});
  }
}

// With u = x * inverse: d x = (weight * dy - u * mean(u * weight * dy)) * inverse, d weight = sum
// over tokens of dy * u.
FEDCTL_WIDE_CLONES
void norm_backward(std::int64_t width, const float* x, const float* weight, const float* inverse,
                   const float* d_y, const float* start, float* d_x, float* d_weight) {
  for (std::int64_t at = 0; at < kTokens; at += kLanes) {
    const Lanes factor = load(inverse + at);
    Lanes even{}, odd{};
    std::int64_t f = 0;
    for (; f + 2 <= width; f += 2) {
      const std::int64_t i = f * kTokens + at, j = i + kTokens;
      even += load(x + i) * weight[f] * load(d_y + i);
      odd += load(x + j) * weight[f + 1] * load(d_y + j);
    }
    if (f < width) even += load(x + f * kTokens + at) * weight[f] * load(d_y + f * kTokens + at);
    const Lanes back = factor * factor * factor * ((even + odd) / static_cast<float>(width));
    for (f = 0; f < width; ++f) {
      const std::int64_t i = f * kTokens + at;
      const Lanes by_y = load(d_y + i), value = load(x + i);
      if (d_weight != nullptr) {
        float* const to = d_weight + f * kLanes;
        store(to, load(to) + by_y * value * factor);
      }
      const Lanes by_x = factor * weight[f] * by_y - back * value;
      store(d_x + i, start == nullptr ? by_x : load(start + i) + by_x);
    }
  }
}

FEDCTL_WIDE_CLONES
void swiglu(std::int64_t count, float* gate, const float* up) {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Lanes g = load(gate + i);
    store(gate + i, g * sigmoid(g) * load(up + i));
  }
}

// d (g s(g)) / d g = s(g) (1 + g (1 - s(g)))
FEDCTL_WIDE_CLONES
void swiglu_slopes(std::int64_t count, float* gate, float* up, float* y) {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Lanes g = load(gate + i), u = load(up + i), s = sigmoid(g);
    const Lanes open = g * s;
    store(y + i, open * u);
    store(gate + i, u * s * (1.0F + (g - open)));
    store(up + i, open);
  }
}

FEDCTL_WIDE_CLONES
void swiglu_backward(std::int64_t count, float* gate, float* up, const float* d_y) {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Lanes d = load(d_y + i);
    store(gate + i, load(gate + i) * d);
    store(up + i, load(up + i) * d);
  }
}

FEDCTL_WIDE_CLONES
void rotate(std::int64_t heads, std::int64_t half, const float* cosine, const float* sine,
            bool backwards, float scale, float* rows) {
  const float sign = backwards ? -scale : scale;
  for (std::int64_t h = 0; h < heads; ++h, rows += 2 * half * kTokens) {
    for (std::int64_t i = 0; i < half * kTokens; i += kLanes) {
      const Lanes c = load(cosine + i) * scale, s = load(sine + i) * sign;
      const Lanes a = load(rows + i), b = load(rows + half * kTokens + i);
      store(rows + i, a * c - b * s);
      store(rows + half * kTokens + i, b * c + a * s);
    }
  }
}

FEDCTL_WIDE_CLONES
void merge_pair(std::int64_t out, std::int64_t in, std::int64_t rank, const float* matrix,
                const float* a, const float* b, float scale, float* merged) {
  for (std::int64_t o = 0; o < out; ++o, matrix += in, merged += in, b += rank) {
    std::copy_n(matrix, in, merged);
    for (std::int64_t r = 0; r < rank; ++r) {
      const float factor = scale * b[r];
      for (std::int64_t i = 0; i < in; ++i) merged[i] += factor * a[r * in + i];
    }
  }
}

FEDCTL_WIDE_CLONES
void cross_entropy(std::int64_t classes, const float* logits, const std::int32_t* labels,
                   Losses& losses) {
  for (std::int64_t at = 0; at < kTokens; at += kLanes) {
    Lanes most, sum{};
    LaneInts first;
    find_largest(classes, logits + at, most, first);
    for (std::int64_t c = 0; c < classes; ++c) {
      sum += power_of_two((load(logits + c * kTokens + at) - most) * kLog2E);
    }
    score(at, logits, labels, most, sum, first, losses);
  }
}

FEDCTL_WIDE_CLONES
void cross_entropy_backward(std::int64_t classes, float* logits, const std::int32_t* labels,
                            double smoothing, float share, Losses& losses) {
  const auto everywhere = static_cast<float>(smoothing / static_cast<double>(classes)) * share;
  const float on_label = static_cast<float>(1 - smoothing) * share;
  Pair most, sum{};
  LaneInts first[2];
  find_largest(classes, logits, most.low, first[0]);
  find_largest(classes, logits + kLanes, most.high, first[1]);
  for (std::int64_t c = 0; c < classes; ++c) {
    const Pair x = load_pair(logits + c * kTokens);
    sum.low += power_of_two((x.low - most.low) * kLog2E);
    sum.high += power_of_two((x.high - most.high) * kLog2E);
  }
  score(0, logits, labels, most.low, sum.low, first[0], losses);
  score(kLanes, logits, labels, most.high, sum.high, first[1], losses);
  if (smoothing > 0) add_smoothing(classes, logits, labels, smoothing, losses);
  Pair factor, less;
  for (int i = 0; i < kLanes; ++i) {
    factor.low[i] = labels[i] == kNone ? 0 : share / sum.low[i];
    factor.high[i] = labels[i + kLanes] == kNone ? 0 : share / sum.high[i];
    less.low[i] = labels[i] == kNone ? 0 : everywhere;
    less.high[i] = labels[i + kLanes] == kNone ? 0 : everywhere;
  }
  for (std::int64_t c = 0; c < classes; ++c) {
    const Pair x = load_pair(logits + c * kTokens);
    store_pair(logits + c * kTokens,
               {power_of_two((x.low - most.low) * kLog2E) * factor.low - less.low,
                power_of_two((x.high - most.high) * kLog2E) * factor.high - less.high});
  }
  for (std::int64_t t = 0; t < kTokens; ++t) {
    if (labels[t] != kNone) logits[labels[t] * kTokens + t] -= on_label;
  }
}

void to_tokens(std::int64_t features, const float* panel, std::int64_t stride, float* out) {
  for (std::int64_t f = 0; f < features; ++f, panel += kTokens) {
    for (std::int64_t t = 0; t < kTokens; ++t) out[t * stride + f] = panel[t];
  }
}

void from_tokens(std::int64_t features, const float* rows, std::int64_t stride, float* panel) {
  for (std::int64_t f = 0; f < features; ++f, panel += kTokens) {
    for (std::int64_t t = 0; t < kTokens; ++t) panel[t] = rows[t * stride + f];
  }
}

}  // namespace fedctl::learn::panels

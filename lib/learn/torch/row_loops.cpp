// RMSNorm, SwiGLU and cross entropy, each in one pass over its rows instead of four to six.
#include <algorithm>
#include <cmath>
#include <vector>

#include "learn/torch/lanes.hpp"
#include "learn/torch/loops.hpp"

namespace fedctl::learn::loops {
namespace {

// Sum over i of a[i] * b[i] * c[i], in sixteen lanes and then what is left over.
FEDCTL_INLINE float triple(const float* a, const float* b, const float* c, std::int64_t count) {
  Lanes sum{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += load(a + i) * load(b + i) * load(c + i);
  float rest = 0;
  for (; i < count; ++i) rest += a[i] * b[i] * c[i];
  return sum_of(sum) + rest;
}

FEDCTL_INLINE float squares(const float* x, std::int64_t count) {
  Lanes sum{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += load(x + i) * load(x + i);
  float rest = 0;
  for (; i < count; ++i) rest += x[i] * x[i];
  return sum_of(sum) + rest;
}

FEDCTL_INLINE Lanes sigmoid(const Lanes& x) { return 1.0F / (1.0F + exponential(-x)); }

FEDCTL_INLINE void swiglu_lanes(const float* gate, const float* up, float* y) {
  const Lanes g = load(gate);
  store(y, g * sigmoid(g) * load(up));
}
// d (g s(g)) / d g = s(g) (1 + g (1 - s(g)))
FEDCTL_INLINE void swiglu_backward_lanes(const float* gate, const float* up, const float* d_y,
                                         float* d_gate, float* d_up) {
  const Lanes g = load(gate), d = load(d_y), s = sigmoid(g);
  store(d_gate, d * load(up) * s * (1.0F + g * (1.0F - s)));
  store(d_up, d * g * s);
}

// One row's softmax numerators in `row` (padded to lanes), their sum and the largest logit.
FEDCTL_INLINE void soften_row(std::int64_t padded, float* row, float& most, float& sum) {
  Lanes peak = load(row), total{};
  for (std::int64_t c = kLanes; c < padded; c += kLanes) peak = larger(load(row + c), peak);
  most = max_of(peak);
  for (std::int64_t c = 0; c < padded; c += kLanes) {
    const Lanes p = exponential(load(row + c) - most);
    total += p;
    store(row + c, p);
  }
  sum = sum_of(total);
}

FEDCTL_INLINE CrossEntropy score_rows(std::int64_t rows, std::int64_t classes, const float* logits,
                                      const std::int64_t* labels, std::int64_t ignore,
                                      float* gradient, double smoothing) {
  CrossEntropy result;
  for (std::int64_t r = 0; r < rows; ++r) result.count += labels[r] != ignore ? 1 : 0;
  const std::int64_t padded = (classes + kLanes - 1) / kLanes * kLanes;
  std::vector<float> row(static_cast<std::size_t>(padded));
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* const in = logits + r * classes;
    const std::int64_t label = labels[r];
    if (label == ignore) {
      if (gradient != nullptr) std::fill_n(gradient + r * classes, classes, 0.0F);
      continue;
    }
    std::copy_n(in, classes, row.data());
    std::fill(row.begin() + classes, row.end(), -1e30F);
    float most = 0, sum = 0;
    soften_row(padded, row.data(), most, sum);
    result.loss_sum += std::log(static_cast<double>(sum)) + static_cast<double>(most) -
                       static_cast<double>(in[label]);
    if (smoothing > 0) {
      double sum_in = 0;
      for (std::int64_t c = 0; c < classes; ++c) sum_in += static_cast<double>(in[c]);
      result.loss_sum += smoothing * (in[label] - sum_in / static_cast<double>(classes));
    }
    result.correct += std::find(in, in + label + 1, most) == in + label ? 1 : 0;
    if (gradient == nullptr) continue;
    float* const out = gradient + r * classes;
    const float share = 1.0F / static_cast<float>(result.count);
    const float factor = share / sum;
    for (std::int64_t c = 0; c < classes; ++c) out[c] = row[static_cast<std::size_t>(c)] * factor;
    if (smoothing > 0) {
      const auto spread = static_cast<float>(smoothing / static_cast<double>(classes)) * share;
      for (std::int64_t c = 0; c < classes; ++c) out[c] -= spread;
    }
    out[label] -= static_cast<float>(1 - smoothing) * share;
  }
  return result;
}

}  // namespace

FEDCTL_CLONES
void rms_norm_forward(std::int64_t rows, std::int64_t width, const float* x, const float* weight,
                      float eps, float* y, float* inverse) {
  for (std::int64_t r = 0; r < rows; ++r, x += width, y += width) {
    const float mean = squares(x, width) / static_cast<float>(width);
    const float factor = 1.0F / __builtin_sqrtf(mean + eps);
    inverse[r] = factor;
    for (std::int64_t c = 0; c < width; ++c) y[c] = x[c] * factor * weight[c];
  }
}

// With u = x / s and s = sqrt(mean(x^2) + eps):
//   d x = (weight * dy - u * mean(u * weight * dy)) / s,   d weight = sum over rows of dy * u
FEDCTL_CLONES
void rms_norm_backward(std::int64_t rows, std::int64_t width, const float* x, const float* weight,
                       const float* inverse, const float* d_y, float* d_x, float* d_weight) {
  if (d_weight != nullptr) std::fill_n(d_weight, width, 0.0F);
  for (std::int64_t r = 0; r < rows; ++r, x += width, d_y += width, d_x += width) {
    const float factor = inverse[r];
    const float mean = triple(x, weight, d_y, width) / static_cast<float>(width);
    const float back = factor * factor * factor * mean;
    for (std::int64_t c = 0; c < width; ++c) d_x[c] = factor * weight[c] * d_y[c] - back * x[c];
    if (d_weight == nullptr) continue;
    for (std::int64_t c = 0; c < width; ++c) d_weight[c] += d_y[c] * x[c] * factor;
  }
}

FEDCTL_CLONES
void swiglu_forward(std::int64_t count, const float* gate, const float* up, float* y) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) swiglu_lanes(gate + i, up + i, y + i);
  float g[kLanes] = {}, u[kLanes] = {}, out[kLanes];
  std::copy_n(gate + i, count - i, g);
  std::copy_n(up + i, count - i, u);
  swiglu_lanes(g, u, out);
  std::copy_n(out, count - i, y + i);
}

FEDCTL_CLONES
void swiglu_backward(std::int64_t count, const float* gate, const float* up, const float* d_y,
                     float* d_gate, float* d_up) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    swiglu_backward_lanes(gate + i, up + i, d_y + i, d_gate + i, d_up + i);
  }
  float g[kLanes] = {}, u[kLanes] = {}, d[kLanes] = {}, d_g[kLanes], d_u[kLanes];
  std::copy_n(gate + i, count - i, g);
  std::copy_n(up + i, count - i, u);
  std::copy_n(d_y + i, count - i, d);
  swiglu_backward_lanes(g, u, d, d_g, d_u);
  std::copy_n(d_g, count - i, d_gate + i);
  std::copy_n(d_u, count - i, d_up + i);
}

FEDCTL_CLONES
CrossEntropy cross_entropy(std::int64_t rows, std::int64_t classes, const float* logits,
                           const std::int64_t* labels, std::int64_t ignore) {
  return score_rows(rows, classes, logits, labels, ignore, nullptr, 0);
}

FEDCTL_CLONES
CrossEntropy cross_entropy_with_gradient(std::int64_t rows, std::int64_t classes,
                                         const float* logits, const std::int64_t* labels,
                                         std::int64_t ignore, float* gradient, double smoothing) {
  return score_rows(rows, classes, logits, labels, ignore, gradient, smoothing);
}

}  // namespace fedctl::learn::loops

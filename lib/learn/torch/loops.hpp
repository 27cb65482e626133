// The inner loops behind ops.hpp, on plain arrays; no torch. Everything is float32, row-major and
// single-threaded; outputs never overlap inputs. Each has a backward twin, checked against finite
// differences in tests/learn/torch.
#pragma once

#include <cstdint>

namespace fedctl::learn::loops {

// Scaled dot-product attention with grouped key/value heads and, if wanted, rotary positions.
//   q, out: [batch, length, heads * head_width];  k, v: [batch, length, kv_heads * head_width]
// Query head h uses key/value head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t batch, length, heads, kv_heads, head_width;
  bool causal;          // position i sees positions 0..i only
  const float* cosine;  // [length, head_width / 2] of the angle at each position; null: no rotation
  const float* sine;
};

// `peak` and `inverse`, [batch, heads, length], are what the backward pass needs of the softmax:
// the largest score of a row and one over the sum of exp(score - peak).
void attention_forward(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       float* out, float* peak, float* inverse);
// Gradients by q, k and v, of their shapes, from the gradient by out. Probabilities are computed
// again rather than kept: batch * heads * length^2 floats cost more to move than to make (Dao et
// al., "FlashAttention", NeurIPS 2022, algorithm 4).
void attention_backward(const AttentionShape& shape, const float* q, const float* k, const float* v,
                        const float* out, const float* peak, const float* inverse,
                        const float* d_out, float* d_q, float* d_k, float* d_v);

// RMSNorm (Zhang and Sennrich, NeurIPS 2019): y = x * weight / sqrt(mean(x^2) + eps), row by row.
// `inverse`, [rows], is 1 / sqrt(...), kept for the backward pass.
void rms_norm_forward(std::int64_t rows, std::int64_t width, const float* x, const float* weight,
                      float eps, float* y, float* inverse);
// d_weight, [width], may be null; it is overwritten.
void rms_norm_backward(std::int64_t rows, std::int64_t width, const float* x, const float* weight,
                       const float* inverse, const float* d_y, float* d_x, float* d_weight);

// SwiGLU's gate (Shazeer 2020, arXiv 2002.05202): y = gate * sigmoid(gate) * up, element by
// element.
void swiglu_forward(std::int64_t count, const float* gate, const float* up, float* y);
void swiglu_backward(std::int64_t count, const float* gate, const float* up, const float* d_y,
                     float* d_gate, float* d_up);

// Softmax cross entropy in nats over rows of logits [rows, classes].
struct CrossEntropy {
  double loss_sum = 0;
  std::int64_t correct = 0;  // rows whose first largest logit is the label
  std::int64_t count = 0;    // rows whose label is not `ignore`
};
// Precondition: labels are in [0, classes) or `ignore`.
CrossEntropy cross_entropy(std::int64_t rows, std::int64_t classes, const float* logits,
                           const std::int64_t* labels, std::int64_t ignore);
// The same, and d (loss_sum / count) / d logits into `gradient`; zeros if there is nothing to
// predict. With label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567, section 7) the target
// is (1 - smoothing) on the label and smoothing / classes on every class.
CrossEntropy cross_entropy_with_gradient(std::int64_t rows, std::int64_t classes,
                                         const float* logits, const std::int64_t* labels,
                                         std::int64_t ignore, float* gradient,
                                         double smoothing = 0);

}  // namespace fedctl::learn::loops

// Loops of the fused Llama step, on plain arrays; no torch. Tokens stand in the lanes: a panel is
// [features, 32 tokens], and a group of texts is panel after panel, "[panels][features]" below for
// [panels, features, 32]. So a norm or a softmax over features needs no sum across lanes, weights
// are read as they lie, number by number, and one panel of a small model stays in the first-level
// cache. Everything is float32 and single-threaded. What a token gets depends on its text alone:
// not on its lane, nor on the texts beside it.
#pragma once

#include <cstdint>

namespace fedctl::learn::panels {

inline constexpr std::int64_t kTokens = 32;  // of a panel
inline constexpr std::int64_t kSlack = 16;   // floats that may be read behind a buffer
inline constexpr float kLog2E = 1.44269504088896341F;

// A matrix whose element (m, k) is at[m * row + k * depth].
struct Left {
  const float* at;
  std::int64_t row, depth;
};
// out[m][n] = start[m][n] + sum over k, in order, of left(m, k) * right[k][n], for m < rows, n <
// columns, k < depth. `right` has rows of right_stride floats, kSlack readable behind the last;
// `out` and `start` (null: zeros; may be out) have rows of out_stride.
struct Product {
  Left left;
  std::int64_t rows, depth;
  const float* right;
  std::int64_t right_stride, columns;
  const float* start;
  float* out;
  std::int64_t out_stride;
};
void multiply(const Product& product);

// RMSNorm of one panel: y = x * weight * inverse, inverse = 1 / sqrt(mean(x^2) + eps), [1].
void norm_forward(std::int64_t width, const float* x, const float* weight, float eps, float* y,
                  float* inverse);
// y again, from `inverse`.
void norm_again(std::int64_t width, const float* x, const float* weight, const float* inverse,
                float* y);
// d_x = start + the gradient by x (start may be null or d_x). d_weight, [width, 16], gets the
// gradient by weight of each lane added; null: not wanted.
void norm_backward(std::int64_t width, const float* x, const float* weight, const float* inverse,
                   const float* d_y, const float* start, float* d_x, float* d_weight);

// SwiGLU of `count` floats: y = gate * sigmoid(gate) * up, into `gate`.
void swiglu(std::int64_t count, float* gate, const float* up);
// The same into y, and gate and up become d y / d gate and d y / d up.
void swiglu_slopes(std::int64_t count, float* gate, float* up, float* y);
// gate and up, which hold the slopes, become gradients: each times d_y.
void swiglu_backward(std::int64_t count, float* gate, float* up, const float* d_y);

// Rotates pairs (d, d + half) of each of `heads` heads of one panel, [heads * 2 * half], and
// multiplies by scale; cosine and sine are [half] panels. Backwards: the other way.
void rotate(std::int64_t heads, std::int64_t half, const float* cosine, const float* sine,
            bool backwards, float scale, float* rows);

// [features] of one panel -> out [32 tokens][stride], and rows [32 tokens][stride] -> [features].
void to_tokens(std::int64_t features, const float* panel, std::int64_t stride, float* out);
void from_tokens(std::int64_t features, const float* rows, std::int64_t stride, float* panel);

// matrix [out, in] plus scale * b [out, rank] a [rank, in].
void merge_pair(std::int64_t out, std::int64_t in, std::int64_t rank, const float* matrix,
                const float* a, const float* b, float scale, float* merged);

// Softmax cross entropy in nats of one panel of logits [classes]; labels [32], kNone where there is
// nothing to predict.
inline constexpr std::int32_t kNone = -1;
struct Losses {
  double loss[32];   // of each token, 0 where there is no label
  bool correct[32];  // whether the first largest logit is the label
};
void cross_entropy(std::int64_t classes, const float* logits, const std::int32_t* labels,
                   Losses& losses);
// The same with label smoothing (see loops.hpp), and the logits become the gradient of `share`
// times the losses by them.
void cross_entropy_backward(std::int64_t classes, float* logits, const std::int32_t* labels,
                            double smoothing, float share, Losses& losses);

}  // namespace fedctl::learn::panels

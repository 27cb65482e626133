// Causal attention with grouped key/value heads over a group of texts in panels (panels.hpp); no
// torch. A token sees its text up to itself.
#pragma once

#include <cstdint>

namespace fedctl::learn::panels {

struct AttentionShape {
  std::int64_t tokens;                  // of the group, a multiple of 32
  std::int64_t heads, kv_heads, width;  // query head h uses key/value head h / (heads / kv_heads)
  // [tokens]: where each token's text begins and ends in the group; never falling.
  const std::int32_t *start, *end;

  std::int64_t features() const { return (heads + 2 * kv_heads) * width; }  // of q, k and v
  // Floats of scratch that either direction needs.
  std::int64_t scratch_floats() const;
};

// qkv: [panels][features()], queries, keys, values; rotated, and the queries multiplied by
// log2(e) / sqrt(width). out: [panels][heads * width]. peak and inverse, [panels][heads], are for
// the backward pass: the largest score, in powers of two, and one over the sum of the softmax.
void attention_forward(const AttentionShape& shape, const float* qkv, float* scratch, float* out,
                       float* peak, float* inverse);
// d_qkv: the gradients by the keys and queries before the queries were multiplied, so of the
// queries sum(dS k) without 1 / sqrt(width), and of the keys sum(dS q) with log2(e) too much.
// Scores are computed again rather than kept (Dao et al., "FlashAttention", NeurIPS 2022).
void attention_backward(const AttentionShape& shape, const float* qkv, const float* out,
                        const float* peak, const float* inverse, const float* d_out, float* scratch,
                        float* d_qkv);

}  // namespace fedctl::learn::panels

// Differentiable operators over loops.hpp. Tensors are float32 and two-dimensional, one row a
// token, the sequences of a batch one behind the other; anything not contiguous is copied first.
#pragma once

#include <vector>

#include "learn/torch/aten.hpp"

namespace fedctl::learn::ops {

struct AttentionOptions {
  std::vector<std::int64_t> lengths;  // of the sequences, in rows
  std::int64_t heads, kv_heads;
  bool causal;
  // [>= the longest, head_width / 2]: cosine and sine of each position's angles; undefined: no
  // rotation.
  at::Tensor cosine, sine;
  // [tokens, kv_heads * head_width]: stand before every sequence and are visible to all of it;
  // undefined: none. The sequences' positions start behind them: the first `tokens` rows of cosine
  // and sine belong to the prefix.
  at::Tensor prefix_keys = {}, prefix_values = {};
};
// softmax(q k^T / sqrt(head_width)) v: q (rows, heads * head_width), k and v (rows,
// kv_heads * head_width), result like q. A sequence sees itself alone.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options);

// x * weight / sqrt(mean(x^2) + eps), row by row.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// gate * sigmoid(gate) * up.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

// x w for x (rows, in) in float32 and a frozen w [in, out] in bfloat16: x is rounded to bfloat16,
// so is the product, which comes back as float32. So does the gradient by x; w has none.
at::Tensor half_product(const at::Tensor& x, const at::Tensor& w);

}  // namespace fedctl::learn::ops

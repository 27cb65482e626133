// What family files share: their makers, checks of batches, attention.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

#define TORCH_FAMILY(name) \
  std::unique_ptr<Family> make_##name(const LearnerSpec& spec, Builder& builder, const Checkpoint* file);
#define PLAIN_FAMILY(name)
#include "learn/families.def"
#undef TORCH_FAMILY
#undef PLAIN_FAMILY

// "pixels" or "features" of a batch. Throws DataError if there is neither.
const Tensor& image_of(const data::Batch& batch);
// Throws DataError unless inputs have the shape of `info` and labels, if present, are its classes.
void check_images(const data::Batch& batch, const data::DatasetInfo& info);

// Scaled dot-product attention: q (n, heads, t, d), k and v (n, heads, s, d); `mask` (t, s) is added to the scores, or
// undefined. Result (n, t, heads * d).
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& mask);
// (n, t, heads * d) -> (n, heads, t, d)
inline torch::Tensor split_heads(const torch::Tensor& x, std::int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

}  // namespace fedctl::learn

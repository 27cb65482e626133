// What encoders that classify by a class token share: their norm, and the sequence of class token,
// soft prompt tokens and embedded tokens. Prompt tokens have no position; Jia et al., "Visual
// prompt tuning", ECCV 2022, arXiv 2203.12119, "shallow".
#pragma once

#include <cmath>

#include "learn/torch/families/norm.hpp"

namespace fedctl::learn {

class ClassSequence {
 public:
  struct Sizes {
    std::int64_t tokens, width, inputs;  // of an example, of a token, of a token before embedding
  };

  ClassSequence() = default;
  ClassSequence(Builder& builder, const std::string& class_name, const std::string& positions_name,
                Sizes sizes)
      : sizes_(sizes), prompt_tokens_(builder.adapter().prompt_tokens()) {
    const std::int64_t width = sizes.width;
    class_token_ = builder.parameter(class_name, {1, 1, width}, Init::normal(0.02));
    positions_ =
        builder.parameter(positions_name, {1, sizes.tokens + 1, width}, Init::normal(0.02));
    if (prompt_tokens_ == 0) return;
    // Jia et al., section 3.2 and its code: uniform as Xavier's for the patch embedding.
    const double bound = std::sqrt(6.0 / static_cast<double>(sizes.inputs + width));
    prompt_ = builder.trainable("prompt_embeddings", "prompt", {prompt_tokens_, width},
                                Init::uniform(bound));
  }

  std::int64_t length() const { return 1 + prompt_tokens_ + sizes_.tokens; }

  // Embedded tokens (n * tokens, width) -> (n * length(), width), the class token first.
  PartState operator()(const at::Tensor& embedded) const {
    const std::int64_t n = embedded.size(0) / sizes_.tokens, width = sizes_.width;
    std::vector<at::Tensor> parts = {
        (class_token_ + positions_.narrow(1, 0, 1)).expand({n, 1, width}),
        embedded.view({n, sizes_.tokens, width}) + positions_.narrow(1, 1, sizes_.tokens)};
    if (prompt_.defined()) {
      parts.insert(parts.begin() + 1, prompt_.unsqueeze(0).expand({n, prompt_tokens_, width}));
    }
    return {at::cat(parts, 1).reshape({n * length(), width}),
            std::vector<std::int64_t>(static_cast<std::size_t>(n), length())};
  }

 private:
  Sizes sizes_{};
  std::int64_t prompt_tokens_ = 0;
  at::Tensor class_token_, positions_, prompt_;
};

// The first row of each example. Precondition: all examples have as many rows.
inline at::Tensor class_rows(const PartState& state) {
  const auto n = static_cast<std::int64_t>(state.lengths.size());
  return state.rows.view({n, state.lengths.front(), state.rows.size(1)}).select(1, 0);
}

}  // namespace fedctl::learn

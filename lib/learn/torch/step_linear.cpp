// The pair is added to the matrix once a call, which costs rank * out * in, and the rows of the
// batch then see one matrix. Its gradients come from W's without making that: with g = dL/dy,
//   dA = scale * (B^T g) x^T,   dB = scale * g (A x)^T
#include "learn/torch/step_linear.hpp"

#include <algorithm>

namespace fedctl::learn {

using panels::kSlack;
using panels::kTokens;

StepLinear::StepLinear(std::int64_t out, std::int64_t in, const float* weight, float* d_weight,
                       std::optional<StepPair> pair)
    : out_(out), in_(in), weight_(weight), d_weight_(d_weight), pair_(pair) {
  if (!pair_) return;
  const auto floats = [](std::int64_t count) {
    return std::vector<float>(static_cast<std::size_t>(count + kSlack));
  };
  ranks_ = (pair_->rank + 15) / 16 * 16;
  merged_ = floats(out * in);
  d_b_ = floats(out * ranks_);
  inner_ = floats(pair_->rank * kTokens);
  d_inner_ = floats(pair_->rank * kTokens);
  inner_tokens_ = floats(kTokens * ranks_);
}

void StepLinear::begin() {
  if (!pair_) return;
  panels::merge_pair(out_, in_, pair_->rank, weight_, pair_->a, pair_->b, pair_->scale,
                     merged_.data());
  std::ranges::fill(d_b_, 0.0F);
}

void StepLinear::forward(const float* x, const float* start, float* y) const {
  panels::multiply({{now(), in_, 1}, out_, in_, x, kTokens, kTokens, start, y, kTokens});
}

void StepLinear::backward(const float* d_y, const float* start, float* d_x) const {
  panels::multiply({{now(), 1, in_}, in_, out_, d_y, kTokens, kTokens, start, d_x, kTokens});
}

void StepLinear::add_gradient(const float* x, const float* x_tokens, std::int64_t stride,
                              const float* d_y) {
  const panels::Left by_token{d_y, kTokens, 1};
  if (d_weight_ != nullptr) {
    panels::multiply({by_token, out_, kTokens, x_tokens, stride, in_, d_weight_, d_weight_, in_});
  }
  if (!pair_) return;
  const std::int64_t rank = pair_->rank;
  float* const inner = inner_.data();
  float* const d_inner = d_inner_.data();
  panels::multiply({{pair_->a, in_, 1}, rank, in_, x, kTokens, kTokens, nullptr, inner, kTokens});
  panels::multiply(
      {{pair_->b, 1, rank}, rank, out_, d_y, kTokens, kTokens, nullptr, d_inner, kTokens});
  for (std::int64_t i = 0; i < rank * kTokens; ++i) d_inner[i] *= pair_->scale;
  panels::multiply(
      {{d_inner, kTokens, 1}, rank, kTokens, x_tokens, stride, in_, pair_->d_a, pair_->d_a, in_});
  panels::to_tokens(rank, inner, ranks_, inner_tokens_.data());
  panels::multiply({by_token, out_, kTokens, inner_tokens_.data(), ranks_, ranks_, d_b_.data(),
                    d_b_.data(), ranks_});
}

void StepLinear::finish() {
  if (!pair_) return;
  for (std::int64_t o = 0; o < out_; ++o) {
    for (std::int64_t r = 0; r < pair_->rank; ++r) {
      pair_->d_b[o * pair_->rank + r] +=
          pair_->scale * d_b_[static_cast<std::size_t>(o * ranks_ + r)];
    }
  }
}

}  // namespace fedctl::learn

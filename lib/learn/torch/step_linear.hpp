// A linear layer of the fused step, on panels (panels.hpp); no torch. Windows on weights and
// gradients that live elsewhere, and what one pass needs of them.
#pragma once

#include <optional>
#include <vector>

#include "learn/torch/panels.hpp"

namespace fedctl::learn {

// scale * B A beside a frozen matrix; a [rank, in], b [out, rank] and their gradients.
struct StepPair {
  const float *a, *b;
  float *d_a, *d_b;
  std::int64_t rank;
  float scale;
};

class StepLinear {
 public:
  // weight [out, in]; its gradient, or null if it is frozen. All outlive the layer.
  StepLinear(std::int64_t out, std::int64_t in, const float* weight, float* d_weight,
             std::optional<StepPair> pair);

  std::int64_t out() const { return out_; }
  std::int64_t in() const { return in_; }
  bool trains() const { return d_weight_ != nullptr || pair_; }

  // Reads the weights as they are now; before the passes of a call.
  void begin();
  // y [out] = start (or zeros) + W x of one panel; y may be start.
  void forward(const float* x, const float* start, float* y) const;
  // d_x [in] = start (or zeros) + W^T d_y.
  void backward(const float* d_y, const float* start, float* d_x) const;
  // Adds what one panel gives to the gradients; x_tokens are the rows of x, [32 tokens][stride].
  void add_gradient(const float* x, const float* x_tokens, std::int64_t stride, const float* d_y);
  // Hands in the part of the gradients that is still here; after the passes of a call.
  void finish();

 private:
  const float* now() const { return pair_ ? merged_.data() : weight_; }

  std::int64_t out_, in_;
  const float* weight_;
  float* d_weight_;
  std::optional<StepPair> pair_;
  std::vector<float> merged_;  // the weights as they are now, where there is a pair
  std::int64_t ranks_ = 0;     // rank, rounded up to whole vectors
  std::vector<float> d_b_;     // [out, ranks]
  std::vector<float> inner_, d_inner_, inner_tokens_;  // A x, B^T d_y; [rank], [32 tokens, ranks]
};

}  // namespace fedctl::learn

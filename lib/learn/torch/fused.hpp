// The face of a fused step: what a Family may offer beside its differentiable operators where it
// has loops of its own for whole passes. It reads the weights as they are at each call and gives
// what the operators give, to the rounding.
#pragma once

#include "learn/learner.hpp"

namespace fedctl::learn {

class FusedStep {
 public:
  virtual ~FusedStep() = default;
  virtual std::int64_t classes() const = 0;  // of a row of logits
  // Logits [predictions, classes] into logits_out unless it is null; without "labels" no scores.
  // Precondition of both: the batch was checked.
  virtual Scores evaluate(const data::Batch& batch, float* logits_out) = 0;
  // Adds d mean loss / d weights to the gradient; scores are of the smoothed loss.
  virtual Scores loss_and_gradient(const data::Batch& batch, double smoothing) = 0;
};

}  // namespace fedctl::learn

// adamw: Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019, algorithm 2, with the
// decay scaled by lr, as torch.optim.AdamW has it). In step t = 1, 2, ...:
//   w <- w * (1 - lr * weight_decay)
//   m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
//   w <- w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
// Arithmetic in float, the corrections in double. Memory: 8 bytes a weight.

#include <cmath>

#include "learn/detail/optimizer_options.hpp"
#include "learn/train.hpp"

namespace fedctl::learn {
namespace {

struct AdamwOptions : detail::OptimizerOptions {
  AdamwOptions() { lr = 1e-3; }
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  void fields(config::Fields& fields) override {
    OptimizerOptions::fields(fields);
    fields.real("beta1", beta1, {.min = 0, .below = 1}, "decay of the mean of the gradients");
    fields.real("beta2", beta2, {.min = 0, .below = 1}, "decay of the mean of their squares");
    fields.real("eps", eps, {.above = 0}, "added to the root of the mean square");
    fields.real("weight_decay", weight_decay, {.min = 0}, "times lr and the weights, each step");
  }
};

class Adamw final : public Optimizer {
 public:
  Adamw(const AdamwOptions& options, std::size_t size)
      : Optimizer(size),
        beta1_(options.beta1),
        beta2_(options.beta2),
        eps_(options.eps),
        weight_decay_(options.weight_decay),
        m_(size),
        v_(size) {}

  std::vector<std::span<float>> memory() override { return {m_, v_}; }

 private:
  void update(std::size_t first, std::span<float> weights, std::span<const float> gradient,
              double lr, bool decay) override {
    const auto keep = static_cast<float>(decay ? 1 - lr * weight_decay_ : 1.0);
    const auto keep1 = static_cast<float>(beta1_), take1 = static_cast<float>(1 - beta1_);
    const auto keep2 = static_cast<float>(beta2_), take2 = static_cast<float>(1 - beta2_);
    const auto rate = static_cast<float>(lr / (1 - std::pow(beta1_, steps())));
    const auto root = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2_, steps())));
    const auto eps = static_cast<float>(eps_);
    float* const w = weights.data();
    const float* const g = gradient.data();
    float* const m = m_.data() + first;
    float* const v = v_.data() + first;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      m[i] = keep1 * m[i] + take1 * g[i];
      v[i] = keep2 * v[i] + take2 * g[i] * g[i];
      w[i] = keep * w[i] - rate * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  }

  double beta1_, beta2_, eps_, weight_decay_;
  std::vector<float> m_;
  std::vector<float> v_;
};

}  // namespace

OptimizerEntry adamw() {
  return {.kind = {.name = "adamw",
                   .summary = "Adam with decoupled weight decay",
                   .paper = "Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101)",
                   .make_options = [] { return std::make_unique<AdamwOptions>(); }},
          .make = [](const config::Options& options, std::size_t size) {
            return std::make_unique<Adamw>(dynamic_cast<const AdamwOptions&>(options), size);
          }};
}

}  // namespace fedctl::learn

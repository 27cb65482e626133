// lion: sign of a mean of gradients (Chen et al., "Symbolic discovery of optimization algorithms",
// NeurIPS 2023, arXiv 2302.06675, algorithm 2; decay decoupled and scaled by lr):
//   u <- sign(beta1 * m + (1 - beta1) * g)        (sign of 0 is 0)
//   w <- w - lr * (u + weight_decay * w);   m <- beta2 * m + (1 - beta2) * g
// m is 0 at first. Every weight moves by lr, whatever the gradient's size, so that the authors take
// lr 3 to 10 times smaller than for AdamW. Arithmetic in float. Memory: 4 bytes a weight.

#include "learn/detail/optimizer_options.hpp"
#include "learn/train.hpp"

namespace fedctl::learn {
namespace {

struct LionOptions : detail::OptimizerOptions {
  LionOptions() { lr = 1e-4; }
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0;
  void fields(config::Fields& fields) override {
    OptimizerOptions::fields(fields);
    fields.real("beta1", beta1, {.min = 0, .below = 1}, "share of the mean in a step's direction");
    fields.real("beta2", beta2, {.min = 0, .below = 1}, "decay of the mean of the gradients");
    fields.real("weight_decay", weight_decay, {.min = 0}, "times lr and the weights, each step");
  }
};

class Lion final : public Optimizer {
 public:
  Lion(const LionOptions& options, std::size_t size)
      : Optimizer(size),
        beta1_(options.beta1),
        beta2_(options.beta2),
        weight_decay_(options.weight_decay),
        m_(size) {}

  std::vector<std::span<float>> memory() override { return {m_}; }

 private:
  void update(std::size_t first, std::span<float> weights, std::span<const float> gradient,
              double lr, bool decay) override {
    const auto keep = static_cast<float>(decay ? 1 - lr * weight_decay_ : 1.0);
    const auto rate = static_cast<float>(lr);
    const auto keep1 = static_cast<float>(beta1_), take1 = static_cast<float>(1 - beta1_);
    const auto keep2 = static_cast<float>(beta2_), take2 = static_cast<float>(1 - beta2_);
    float* const w = weights.data();
    const float* const g = gradient.data();
    float* const m = m_.data() + first;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float direction = keep1 * m[i] + take1 * g[i];
      const float sign = static_cast<float>(direction > 0) - static_cast<float>(direction < 0);
      // A gradient that is not a number has no sign; it must not pass for a step of size 0.
      w[i] = direction == direction ? keep * w[i] - rate * sign : direction;
      m[i] = keep2 * m[i] + take2 * g[i];
    }
  }

  double beta1_, beta2_, weight_decay_;
  std::vector<float> m_;
};

}  // namespace

OptimizerEntry lion() {
  return {.kind = {.name = "lion",
                   .summary = "sign of a mean of gradients",
                   .paper = "Chen et al., NeurIPS 2023, arXiv 2302.06675",
                   .make_options = [] { return std::make_unique<LionOptions>(); }},
          .make = [](const config::Options& options, std::size_t size) {
            return std::make_unique<Lion>(dynamic_cast<const LionOptions&>(options), size);
          }};
}

}  // namespace fedctl::learn

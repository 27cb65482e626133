// sgd: stochastic gradient descent with heavy-ball momentum, as torch.optim.SGD with dampening 0
// has it:
//   g <- gradient + weight_decay * w;   b <- momentum * b + g;   w <- w - lr * b
// or, with nesterov, w <- w - lr * (g + momentum * b). b is 0 at first. Arithmetic in float.
// Memory: 4 bytes a weight with momentum, none without.

#include "learn/detail/optimizer_options.hpp"
#include "learn/train.hpp"

namespace fedctl::learn {
namespace {

struct SgdOptions : detail::OptimizerOptions {
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 0;
  void fields(config::Fields& fields) override {
    OptimizerOptions::fields(fields);
    fields.real("momentum", momentum, {.min = 0, .below = 1}, "share of the last step kept");
    fields.boolean("nesterov", nesterov, "step from where the momentum leads");
    fields.real("weight_decay", weight_decay, {.min = 0}, "times the weights, in the gradient");
  }
};

class Sgd final : public Optimizer {
 public:
  Sgd(const SgdOptions& options, std::size_t size)
      : Optimizer(size),
        momentum_(static_cast<float>(options.momentum)),
        weight_decay_(static_cast<float>(options.weight_decay)),
        nesterov_(options.nesterov),
        velocity_(momentum_ > 0 ? size : 0) {}

  std::vector<std::span<float>> memory() override {
    return velocity_.empty() ? std::vector<std::span<float>>{}
                             : std::vector<std::span<float>>{velocity_};
  }

 private:
  void update(std::size_t first, std::span<float> weights, std::span<const float> gradient,
              double lr, bool decay) override {
    const auto rate = static_cast<float>(lr);
    const float pull = decay ? weight_decay_ : 0;
    float* const w = weights.data();
    const float* const g = gradient.data();
    if (velocity_.empty()) {
      for (std::size_t i = 0; i < weights.size(); ++i) w[i] -= rate * (g[i] + pull * w[i]);
      return;
    }
    float* const b = velocity_.data() + first;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float slope = g[i] + pull * w[i];
      b[i] = momentum_ * b[i] + slope;
      w[i] -= rate * (nesterov_ ? slope + momentum_ * b[i] : b[i]);
    }
  }

  float momentum_;
  float weight_decay_;
  bool nesterov_;
  std::vector<float> velocity_;  // b; empty without momentum
};

}  // namespace

OptimizerEntry sgd() {
  return {.kind = {.name = "sgd",
                   .summary = "stochastic gradient descent with momentum",
                   .paper = "Polyak, USSR Comput. Math. Math. Phys. 4(5), 1964",
                   .make_options = [] { return std::make_unique<SgdOptions>(); }},
          .make = [](const config::Options& options, std::size_t size) {
            return std::make_unique<Sgd>(dynamic_cast<const SgdOptions&>(options), size);
          }};
}

}  // namespace fedctl::learn

// ia3: Liu et al., "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context
// learning", NeurIPS 2022, arXiv 2205.05638, section 3.3.
//
//   keys, values:   y = l * (W x + b),   l in R^out
//   feed-forward:   y = W (l * x) + b,   l in R^in, of the layer that leads back to the width
//
// l starts at one. Biases are scaled too, as PEFT does.
#include <algorithm>

#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

constexpr const char* kName = ".ia3_l";

class OutputScale final : public Delta {
 public:
  explicit OutputScale(at::Tensor scale) : scale_(std::move(scale)) {}
  at::Tensor output(const at::Tensor& y, const at::Tensor&) const override {
    return y * scale_.t();
  }
  bool only_adds() const override { return false; }
  at::Tensor merged(const at::Tensor& weight) const override { return weight * scale_; }
  at::Tensor merged_bias(const at::Tensor& bias) const override { return bias * scale_.flatten(); }

 private:
  at::Tensor scale_;  // [out, 1]
};

class InputScale final : public Delta {
 public:
  explicit InputScale(at::Tensor scale) : scale_(std::move(scale)) {}
  at::Tensor input(const at::Tensor& x) const override { return x * scale_; }
  at::Tensor output(const at::Tensor& y, const at::Tensor&) const override { return y; }
  at::Tensor merged(const at::Tensor& weight) const override { return weight * scale_; }

 private:
  at::Tensor scale_;  // [1, in]
};

class Ia3 final : public Adapter {
 public:
  explicit Ia3(const Ia3Options& options) : options_(options) {
    if (options_.targets.empty()) options_.targets = {"key", "value", "qkv"};
    if (options_.feedforward.empty()) options_.feedforward = {"down", "fc2"};
  }
  bool trains_head() const override { return options_.train_head; }

  std::shared_ptr<const Delta> adapt(Builder& builder, const Site& site) const override {
    const std::string name = site.module + kName;
    if (targeted(options_.feedforward, site)) {
      return std::make_shared<InputScale>(
          builder.trainable(name, "adapter", {1, site.in}, Init::ones()));
    }
    if (!targeted(options_.targets, site)) return nullptr;
    return std::make_shared<OutputScale>(
        builder.trainable(name, "adapter", {site.out, 1}, Init::ones()));
  }

  void complete(Builder& builder) const override {
    require_matches(builder, "targets", options_.targets);
    require_matches(builder, "feedforward", options_.feedforward);
  }

  JsonMembers peft_config(const PeftContext& context) const override {
    std::vector<std::string> feedforward;
    for (const Adapted& layer : context.adapted) {
      const bool scales_input = std::ranges::any_of(
          options_.feedforward,
          [&](const std::string& target) { return fits(target, layer.module, layer.target); });
      if (scales_input) feedforward.push_back(layer.module);
    }
    return {{"peft_type", json_of("IA3")},
            {"init_ia3_weights", "true"},
            {"target_modules", adapted_endings(context)},
            {"feedforward_modules", context.endings(feedforward)}};
  }

 private:
  Ia3Options options_;
};

}  // namespace

std::unique_ptr<Adapter> make_ia3(const config::Options& options) {
  return std::make_unique<Ia3>(dynamic_cast<const Ia3Options&>(options));
}

}  // namespace fedctl::learn

// lora: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, arXiv
// 2106.09685, section 4.1.
//
//   y = W x + (alpha / r) B A x,   A in R^{r x in}, B in R^{out x r}
//
// A starts uniform in (-1/sqrt(in), 1/sqrt(in)) (the LoRA library's Kaiming-uniform with a =
// sqrt(5)), B at zero. Each A has a stream of its own, named by its module.
#include <algorithm>

#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

class LowRank final : public Delta {
 public:
  LowRank(at::Tensor a, at::Tensor b, double scale)
      : a_(std::move(a)), b_(std::move(b)), scale_(scale) {}

  at::Tensor add(const at::Tensor& y, const at::Tensor& x) const override {
    at::Tensor sum = y;
    return sum.addmm_(x.mm(a_.t()), b_.t(), 1, scale_);
  }

 private:
  at::Tensor a_, b_;
  double scale_;
};

class Lora final : public Adapter {
 public:
  explicit Lora(const LoraOptions& options) : options_(options) {}
  bool trains_head() const override { return options_.train_head; }

  std::unique_ptr<Delta> adapt(Builder& builder, const std::string& module,
                               const std::string& target, std::int64_t in,
                               std::int64_t out) const override {
    if (std::ranges::find(options_.targets, target) == options_.targets.end()) return nullptr;
    const std::int64_t rank = options_.rank;
    at::Tensor a =
        builder.trainable(module + ".lora_A.weight", "adapter", {rank, in}, Init::linear(in));
    at::Tensor b =
        builder.trainable(module + ".lora_B.weight", "adapter", {out, rank}, Init::zeros());
    return std::make_unique<LowRank>(std::move(a), std::move(b),
                                     options_.alpha / static_cast<double>(rank));
  }

 private:
  LoraOptions options_;
};

}  // namespace

std::unique_ptr<Adapter> make_lora(const config::Options& options) {
  return std::make_unique<Lora>(dynamic_cast<const LoraOptions&>(options));
}

}  // namespace fedctl::learn

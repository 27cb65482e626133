// lora: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, arXiv
// 2106.09685, section 4.1. The pair A, B is low_rank.cpp's.
//
//   y = W x + b + scale * B A x
#include "learn/torch/adapters/low_rank.hpp"

namespace fedctl::learn {
namespace {

class Update final : public Delta {
 public:
  explicit Update(LowRank pair) : pair_(std::move(pair)) {}

  at::Tensor output(const at::Tensor& y, const at::Tensor& x) const override {
    at::Tensor sum = y;
    return sum.addmm_(pair_.inner(x), pair_.b.t(), 1, pair_.scale);
  }
  at::Tensor merged(const at::Tensor& weight) const override {
    return pair_.added_to(weight).to(at::kFloat);
  }
  std::optional<Pair> pair() const override {
    if (pair_.dropout > 0) return std::nullopt;
    return Pair{pair_.a, pair_.b, pair_.scale};
  }

 private:
  LowRank pair_;
};

class Lora final : public LowRankAdapter {
 public:
  using LowRankAdapter::LowRankAdapter;

 protected:
  std::shared_ptr<const Delta> hang(Builder&, const Site&, LowRank pair) const override {
    return std::make_shared<Update>(std::move(pair));
  }
};

}  // namespace

std::unique_ptr<Adapter> make_lora(const config::Options& options) {
  return std::make_unique<Lora>(dynamic_cast<const LoraOptions&>(options));
}

}  // namespace fedctl::learn

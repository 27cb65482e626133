// dora: Liu et al., "DoRA: weight-decomposed low-rank adaptation", ICML 2024, arXiv 2402.09353,
// equation 5. The pair A, B is low_rank.cpp's.
//
//   V = W + scale * B A,   y = m / |V| * (W x + scale * B A x) + b
//
// |V| holds the norms of V's rows, one an output, and m starts as |W|, so that training starts from
// the base. As in section 4.3 (and PEFT) |V| counts as a constant in the gradient, unless
// exact_norm.
// Deviation from PEFT: dropout applies to the input of B A alone, not to that of W.
#include "learn/torch/adapters/low_rank.hpp"

namespace fedctl::learn {
namespace {

constexpr double kSquareMin = 1e-30;  // rows of zeros have no direction

class Decomposed final : public Delta {
 public:
  Decomposed(LowRank pair, at::Tensor magnitude, const AdaptableLinear& layer, at::Tensor squares,
             bool exact_norm)
      : pair_(std::move(pair)),
        magnitude_(std::move(magnitude)),
        weight_(layer.weight),
        bias_(layer.bias),
        storage_(layer.storage),
        squares_(std::move(squares)),
        exact_norm_(exact_norm) {}

  at::Tensor output(const at::Tensor& y, const at::Tensor& x) const override {
    at::Tensor sum = y;
    sum.addmm_(pair_.inner(x), pair_.b.t(), 1, pair_.scale);
    const at::Tensor factor = magnitude_ / norms();
    // The bias is in y already and is not scaled.
    return bias_.defined() ? sum * factor + bias_ * (1 - factor) : sum * factor;
  }
  bool only_adds() const override { return false; }

  at::Tensor merged(const at::Tensor& weight) const override {
    const at::Tensor v = pair_.added_to(weight);
    const at::Tensor norm = v.square().sum(1).clamp_min(kSquareMin).sqrt();
    return v.mul(magnitude_.to(at::kDouble).div(norm).unsqueeze(1)).to(at::kFloat);
  }

 private:
  at::Tensor norms() const {
    if (exact_norm_) return sum_of_squares(pair_.a, pair_.b).clamp_min(kSquareMin).sqrt();
    const at::NoGradGuard guard;
    return sum_of_squares(pair_.a, pair_.b).clamp_min(kSquareMin).sqrt();
  }
  // |W|^2 + 2 scale <W A^T, B> + scale^2 <B A A^T, B>, row by row: V itself is never made.
  at::Tensor sum_of_squares(const at::Tensor& a, const at::Tensor& b) const {
    const at::Tensor w = AdaptableLinear{weight_, {}, storage_, {}}.matrix();
    const at::Tensor crossed = w.mm(a.t()).mul(2 * pair_.scale);
    const at::Tensor squared = b.mm(a.mm(a.t())).mul(pair_.scale * pair_.scale);
    return squares_ + ((crossed + squared) * b).sum(1);
  }

  LowRank pair_;
  at::Tensor magnitude_, weight_, bias_;
  Storage storage_;
  at::Tensor squares_;
  bool exact_norm_;
};

class Dora final : public LowRankAdapter {
 public:
  explicit Dora(const DoraOptions& options)
      : LowRankAdapter(options), exact_norm_(options.exact_norm) {}

  JsonMembers peft_config(const PeftContext& context) const override {
    JsonMembers members = LowRankAdapter::peft_config(context);
    members.emplace_back("use_dora", "true");
    return members;
  }

 protected:
  std::shared_ptr<const Delta> hang(Builder& builder, const Site& site,
                                    LowRank pair) const override {
    const at::Tensor squares = site.layer.matrix().square().sum(1);
    const at::Tensor magnitude = builder.trainable(site.module + ".lora_magnitude_vector",
                                                   "adapter", squares.clamp_min(kSquareMin).sqrt());
    return std::make_shared<Decomposed>(std::move(pair), magnitude, site.layer, squares,
                                        exact_norm_);
  }

 private:
  bool exact_norm_;
};

}  // namespace

std::unique_ptr<Adapter> make_dora(const config::Options& options) {
  return std::make_unique<Dora>(dynamic_cast<const DoraOptions&>(options));
}

}  // namespace fedctl::learn

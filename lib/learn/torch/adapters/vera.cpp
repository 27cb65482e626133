// vera: Kopiczko, Blankevoort, Asano, "VeRA: vector-based random matrix adaptation", ICLR 2024,
// arXiv 2310.11454, equation 2.
//
//   y = W x + b + lambda_b * B (lambda_d * A x)
//
// A [r, in] and B [out, r] are frozen, random and the same in all layers: cut from one matrix each
// that is as large as the largest adapted layer needs (as PEFT does). Their entries are uniform
// with the bound sqrt(6 / columns), Kaiming's. lambda_b [out] starts at zero, lambda_d [r] at
// d_initial. A and B come from our generator, so the adapter's folder holds them (PEFT's
// save_projection).
#include <algorithm>
#include <cmath>

#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

struct Projections {
  std::int64_t in = 0, out = 0;  // the largest so far
  at::Tensor a, b;               // [r, in], [out, r]; after the last layer
};

class Scaled final : public Delta {
 public:
  Scaled(std::shared_ptr<const Projections> shared, at::Tensor lambda_b, at::Tensor lambda_d,
         std::int64_t in, std::int64_t out)
      : shared_(std::move(shared)),
        lambda_b_(std::move(lambda_b)),
        lambda_d_(std::move(lambda_d)),
        in_(in),
        out_(out) {}

  at::Tensor output(const at::Tensor& y, const at::Tensor& x) const override {
    at::Tensor sum = y;
    return sum.addcmul_((x.mm(a().t()) * lambda_d_).mm(b().t()), lambda_b_);
  }
  at::Tensor merged(const at::Tensor& weight) const override {
    const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
    const at::Tensor left = wide(b()) * wide(lambda_b_).unsqueeze(1);
    return left.mm(wide(a()) * wide(lambda_d_).unsqueeze(1)).add_(weight).to(at::kFloat);
  }

 private:
  at::Tensor a() const { return shared_->a.narrow(1, 0, in_); }
  at::Tensor b() const { return shared_->b.narrow(0, 0, out_); }

  std::shared_ptr<const Projections> shared_;
  at::Tensor lambda_b_, lambda_d_;
  std::int64_t in_, out_;
};

class Vera final : public Adapter {
 public:
  explicit Vera(const VeraOptions& options) : options_(options) {}
  bool trains_head() const override { return options_.train_head; }

  std::shared_ptr<const Delta> adapt(Builder& builder, const Site& site) const override {
    if (!targeted(options_.targets, site)) return nullptr;
    shared_->in = std::max(shared_->in, site.in);
    shared_->out = std::max(shared_->out, site.out);
    const at::Tensor b =
        builder.trainable(site.module + ".vera_lambda_b", "adapter", {site.out}, Init::zeros());
    const at::Tensor d = builder.trainable(site.module + ".vera_lambda_d", "adapter",
                                           at::full({options_.rank}, options_.d_initial));
    return std::make_shared<Scaled>(shared_, b, d, site.in, site.out);
  }

  void complete(Builder& builder) const override {
    require_matches(builder, "targets", options_.targets);
    if (shared_->in == 0) return;  // a model without layers, of which others complain
    const auto bound = [](std::int64_t columns) {
      return Init::uniform(std::sqrt(6.0 / static_cast<double>(columns)));
    };
    const std::int64_t rank = options_.rank;
    shared_->a = builder.frozen("vera_A", {rank, shared_->in}, bound(shared_->in));
    shared_->b = builder.frozen("vera_B", {shared_->out, rank}, bound(rank));
  }

  JsonMembers peft_config(const PeftContext& context) const override {
    return {{"peft_type", json_of("VERA")},
            {"r", std::to_string(options_.rank)},
            {"d_initial", json_of(options_.d_initial)},
            {"vera_dropout", "0.0"},
            {"save_projection", "true"},
            {"projection_prng_key", "0"},
            {"bias", json_of("none")},
            {"target_modules", adapted_endings(context)}};
  }

 private:
  VeraOptions options_;
  std::shared_ptr<Projections> shared_ = std::make_shared<Projections>();
};

}  // namespace

std::unique_ptr<Adapter> make_vera(const config::Options& options) {
  return std::make_unique<Vera>(dynamic_cast<const VeraOptions&>(options));
}

}  // namespace fedctl::learn

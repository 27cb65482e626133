// FedProx: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous
// networks", MLSys 2020, arXiv 1812.06127, Algorithm 2. FedAvg with a proximal term in the local
// objective:
//
//   local gradient = grad f_i(w) + mu (w - x)
//
// Messages and bytes as FedAvg. The authors state that no single default of mu exists; they tune it
// in {0.001, 0.01, 0.1, 0.5, 1}.
#include "methods/detail/averaging.hpp"

namespace fedctl::methods {
namespace {

struct FedProxOptions final : AveragingOptions {
  double mu = 0.01;
  void fields(config::Fields& fields) override {
    fields.real("mu", mu, {.min = 0}, "weight of the proximal term (mu/2) |w - x|^2");
    AveragingOptions::fields(fields);
  }
};

learn::GradientHook proximal(double mu, std::span<const float> start) {
  return [mu = static_cast<float>(mu), start](std::span<const float> weights,
                                              std::span<float> gradient) {
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += mu * (weights[i] - start[i]);
  };
}

}  // namespace

MethodEntry fedprox();
MethodEntry fedprox() {
  return {.kind = {"fedprox", "FedAvg with a proximal term at the clients",
                   "Li et al., MLSys 2020, arXiv 1812.06127",
                   [] { return std::make_unique<FedProxOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .sums = true,
          .make_server = make_averaging_server,
          .make_client = [](const config::Options& options, const JobPlan&) {
            const double mu = dynamic_cast<const FedProxOptions&>(options).mu;
            return make_averaging_client(
                [mu](std::span<const float> start) { return proximal(mu, start); });
          }};
}

}  // namespace fedctl::methods

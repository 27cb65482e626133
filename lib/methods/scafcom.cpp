// SCAFCOM: Huang, Li, Li, ICLR 2024, arXiv 2308.08165, algorithm 2. SCAFFOLD with any contractive
// codec on the difference between a local momentum and the control variate (detail/controlled.hpp):
//
//   v_i <- (1 - b) v_i + b (inc + c_i),   q_i = C(v_i - c_i)
//
// v_i is 0 at first and stays as it is while the client is not asked. An answer that was not used
// is taken out of c_i alone: v_i is a mean of gradients, and they were gradients.
#include "methods/detail/controlled.hpp"

namespace fedctl::methods {
namespace {

struct ScafcomOptions final : ControlledOptions {
  double momentum = 0.2;
  void fields(config::Fields& fields) override {
    fields.real("momentum", momentum, {.above = 0, .max = 1}, "b, the share of the new gradient");
    ControlledOptions::fields(fields);
  }
};

}  // namespace

MethodEntry scafcom();
MethodEntry scafcom() {
  return {.kind = {"scafcom", "SCAFFOLD with a contractive codec and local momentum",
                   "Huang, Li, Li, ICLR 2024, arXiv 2308.08165",
                   [] { return std::make_unique<ScafcomOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .plain_sgd = true,
          .own_feedback = true,
          .make_server = make_controlled_server,
          .make_client = [](const config::Options& options, const JobPlan& plan) {
            const auto b =
                static_cast<float>(dynamic_cast<const ScafcomOptions&>(options).momentum);
            return make_controlled_client(
                [b](std::span<const float> control, std::vector<float>& momentum,
                    std::span<float> increment) {
                  momentum.resize(increment.size());
                  for (std::size_t i = 0; i < increment.size(); ++i) {
                    momentum[i] += b * (increment[i] + control[i] - momentum[i]);
                    increment[i] = momentum[i] - control[i];
                  }
                },
                plan);
          }};
}

}  // namespace fedctl::methods

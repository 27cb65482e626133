// SCALLION: Huang, Li, Li, ICLR 2024, arXiv 2308.08165, algorithm 1. SCAFFOLD with an unbiased
// codec on the scaled increment (detail/controlled.hpp):
//
//   q_i = U(a inc)
//
// c_i contracts towards the gradient for a < 2 / (1 + omega), fastest for a = 1 / (1 + omega), with
// omega the variance of U: 0.1 for rand-k of a tenth, 0.6 for eden of one bit.
#include "methods/detail/controlled.hpp"

namespace fedctl::methods {
namespace {

struct ScallionOptions final : ControlledOptions {
  double scaling = 0.1;
  void fields(config::Fields& fields) override {
    fields.real("scaling", scaling, {.above = 0, .max = 1}, "a, of the increment that is coded");
    ControlledOptions::fields(fields);
  }
};

}  // namespace

MethodEntry scallion();
MethodEntry scallion() {
  return {.kind = {"scallion", "SCAFFOLD with an unbiased codec",
                   "Huang, Li, Li, ICLR 2024, arXiv 2308.08165",
                   [] { return std::make_unique<ScallionOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .plain_sgd = true,
          .own_feedback = true,
          .up_codec = "unbiased",
          .make_server = make_controlled_server,
          .make_client = [](const config::Options& options, const JobPlan& plan) {
            const auto a =
                static_cast<float>(dynamic_cast<const ScallionOptions&>(options).scaling);
            return make_controlled_client(
                [a](std::span<const float>, std::vector<float>&, std::span<float> increment) {
                  for (float& value : increment) value *= a;
                },
                plan);
          }};
}

}  // namespace fedctl::methods

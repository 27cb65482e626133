// SCAFFOLD: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: stochastic controlled
// averaging for federated learning", ICML 2020, arXiv 1910.06378, option II, in the one-vector form
// of Huang, Li, Li (detail/controlled.hpp): q_i = inc. Half of the original's bytes up, the same
// iterates.
#include "methods/detail/controlled.hpp"

namespace fedctl::methods {

MethodEntry scaffold();
MethodEntry scaffold() {
  return {.kind = {"scaffold", "control variates against unequal clients",
                   "Karimireddy et al., ICML 2020, arXiv 1910.06378",
                   [] { return std::make_unique<ControlledOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .plain_sgd = true,
          .own_feedback = true,
          .up_codec = "none",
          .make_server = make_controlled_server,
          .make_client = [](const config::Options&, const JobPlan& plan) {
            return make_controlled_client(
                [](std::span<const float>, std::vector<float>&, std::span<float>) {}, plan);
          }};
}

}  // namespace fedctl::methods

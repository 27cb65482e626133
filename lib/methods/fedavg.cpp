// FedAvg: McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-efficient learning of
// deep networks from decentralized data", AISTATS 2017, arXiv 1602.05629, Algorithm 1. With a
// server optimiser other than sgd it is FedAvgM (1909.06335) or FedAdagrad, FedAdam, FedYogi
// (2003.00295, Algorithm 2).
//
//   x <- x + lr_server * sum_i p_i (w_i - x),   p_i = n_i / sum n
//
// Messages: methods/detail/averaging.hpp. Bytes a round and client: 4 d each way before
// codecs.
#include "methods/detail/averaging.hpp"

namespace fedctl::methods {

MethodEntry fedavg();
MethodEntry fedavg() {
  return {.kind = {"fedavg", "weighted mean of client updates, with an optimiser on the server",
                   "McMahan et al., AISTATS 2017, arXiv 1602.05629",
                   [] { return std::make_unique<AveragingOptions>(); }},
          .needs = "gradients",
          .payload = "linear",
          .rung = 2,
          .sums = true,
          .make_server = make_averaging_server,
          .make_client = [](const config::Options&, const JobPlan&) {
            return make_averaging_client({});
          }};
}

}  // namespace fedctl::methods

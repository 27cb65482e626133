// ServerOptimizer: how the server moves its weights by the mean of the clients' differences, which
// stands in for a negative gradient (Reddi et al., "Adaptive federated optimization", ICLR 2021,
// arXiv 2003.00295, algorithms 1 and 2).
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/tensor.hpp"
#include "config/fields.hpp"

namespace fedctl::aggregate {

class ServerOptimizer {
 public:
  virtual ~ServerOptimizer() = default;
  // One server round: `delta` is the aggregate of (client weights - server weights).
  virtual void step(std::span<float> weights, std::span<const float> delta) = 0;
  // What the next rounds depend on, for a checkpoint: f64 vectors of the weights' length by the
  // paper's letters ("m", "v") and i64 "round"; empty if there is none. restore() throws WireError
  // on names, types, shapes or values that state() of such an instance could not have returned, and
  // then changes nothing.
  virtual TensorMap state() const = 0;
  virtual void restore(const TensorMap& state) = 0;
};

struct ServerOptimizerEntry {
  config::Kind kind;
  std::function<std::unique_ptr<ServerOptimizer>(const config::Options&, std::size_t size)> make;
};
const std::vector<ServerOptimizerEntry>& server_optimizers();  // adagrad adam momentum sgd yogi
const config::Kinds& server_optimizer_kinds();

}  // namespace fedctl::aggregate

// Local training: optimisers on flat vectors and the loop over batches. Torch-free,
// single-threaded, the same for every Learner.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.hpp"
#include "config/fields.hpp"
#include "data/dataset.hpp"
#include "learn/learner.hpp"

namespace fedctl::learn {

// One step on a flat vector; its state lives as long as it does (one local training).
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual void step(std::span<float> weights, std::span<const float> gradient, double lr) = 0;
};

struct OptimizerEntry {
  config::Kind kind;
  std::function<std::unique_ptr<Optimizer>(const config::Options&, std::size_t size)> make;
};
const std::vector<OptimizerEntry>& optimizers();  // sgd, adamw
const config::Kinds& optimizer_kinds();
double learning_rate(const config::Plugin& optimizer);

struct TrainOptions : config::Options {
  std::int64_t epochs = 1;
  std::int64_t steps = 0;  // > 0: this many steps instead of epochs
  std::int64_t batch_size = 16;
  config::Plugin optimizer;
  TrainOptions();
  void fields(config::Fields& fields) override;
};

struct TrainReport {
  std::int64_t steps = 0;
  std::int64_t examples = 0;  // in the client's training share (the weight of its update)
  double loss = 0;            // mean over the steps
};

// Edits the gradient before the optimiser sees it (FedProx: gradient += mu * (weights - start)).
using GradientHook = std::function<void(std::span<const float> weights, std::span<float> gradient)>;

// The batches of one epoch: a permutation by `rng`, cut into batches. Texts of a batch stand one
// behind the other, so different lengths cost nothing.
std::vector<std::vector<std::size_t>> epoch_batches(std::span<const std::size_t> indices,
                                                    std::size_t batch_size, Rng rng);

// Trains learner.weights() in place. `rng` names the order: stream ("epoch", e).
TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng);

}  // namespace fedctl::learn

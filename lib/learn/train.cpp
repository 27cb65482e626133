#include "learn/train.hpp"

#include "base/assert.hpp"
#include "learn/pool.hpp"

namespace fedctl::learn {
namespace {

std::unique_ptr<Optimizer> make_optimizer(const config::Plugin& plugin, std::size_t size) {
  for (const OptimizerEntry& entry : optimizers()) {
    if (entry.kind.name == plugin.kind) return entry.make(*plugin.options, size);
  }
  throw ConfigError(plugin.place + ": train.optimizer.kind is \"" + plugin.kind +
                    "\", which is no optimizer");
}

}  // namespace

TrainOptions::TrainOptions() : optimizer(config::make_plugin(optimizer_kinds(), "sgd")) {}

void TrainOptions::fields(config::Fields& fields) {
  constexpr std::int64_t kMax = 1'000'000'000;
  fields.integer("epochs", epochs, {.min = 1, .max = kMax},
                 "passes over the client's examples in one round");
  fields.integer("steps", steps, {.min = 0, .max = kMax},
                 "batches in one round instead of epochs; 0: count epochs");
  fields.integer("batch_size", batch_size, {.min = 1, .max = kMax}, "examples a step");
  fields.plugin("optimizer", optimizer, optimizer_kinds(), "the clients' optimizer");
}

std::vector<std::vector<std::size_t>> epoch_batches(std::span<const std::size_t> indices,
                                                    std::size_t batch_size, Rng rng) {
  std::vector<std::size_t> order(indices.begin(), indices.end());
  rng.shuffle(std::span(order));
  return batches_of(order, batch_size);
}

TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng) {
  FEDCTL_ASSERT(!indices.empty());
  const auto optimizer = make_optimizer(options.optimizer, learner.weights().size());
  const double lr = learning_rate(options.optimizer);
  TrainReport report{.examples = static_cast<std::int64_t>(indices.size())};
  const auto finished = [&](std::int64_t epoch) {
    return options.steps > 0 ? report.steps == options.steps : epoch == options.epochs;
  };
  for (std::int64_t epoch = 0; !finished(epoch); ++epoch) {
    const auto batches = epoch_batches(indices, static_cast<std::size_t>(options.batch_size),
                                       rng.stream("epoch", epoch));
    for (const auto& batch : batches) {
      report.loss += learner.loss_and_gradient(data.gather(batch));
      if (hook) hook(learner.weights(), learner.gradient());
      optimizer->step(learner.weights(), learner.gradient(), lr);
      ++report.steps;
      if (report.steps == options.steps) break;
    }
  }
  report.loss /= static_cast<double>(report.steps);
  return report;
}

}  // namespace fedctl::learn

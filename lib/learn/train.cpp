#include "learn/train.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"
#include "learn/pool.hpp"
#include "math/vectors.hpp"

namespace fedctl::learn {
namespace {

// What the mean loss of a batch is a mean over.
std::int64_t predictions(const data::Batch& batch, std::size_t examples) {
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return static_cast<std::int64_t>(examples);
  return std::ranges::count_if(labels->second.i64(),
                               [](std::int64_t label) { return label != data::kIgnore; });
}

// One step's gradient, from one batch or several.
class Gradient {
 public:
  Gradient(Learner& learner, const data::Dataset& data, const GradientHook& hook, double clip)
      : learner_(learner), data_(data), hook_(hook), clip_(clip) {}

  // Leaves it in learner.gradient(), and returns the mean loss.
  double of(std::span<const std::vector<std::size_t>> batches) {
    const double loss = batches.size() == 1 ? learner_.loss_and_gradient(data_.gather(batches[0]))
                                            : mean_over(batches);
    if (hook_) hook_(learner_.weights(), learner_.gradient());
    clip(learner_.gradient(), clip_);
    return loss;
  }

 private:
  // As if the batches were one: each counts by its predictions.
  double mean_over(std::span<const std::vector<std::size_t>> batches) {
    sum_.assign(learner_.gradient().size(), 0);
    double loss = 0, all = 0;
    for (const std::vector<std::size_t>& batch : batches) {
      const data::Batch examples = data_.gather(batch);
      const double mean = learner_.loss_and_gradient(examples);
      const auto count = static_cast<double>(predictions(examples, batch.size()));
      loss += count * mean;
      all += count;
      const std::span<const float> slope = learner_.gradient();
      for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += static_cast<float>(count) * slope[i];
    }
    const double share = all > 0 ? 1 / all : 0;
    std::ranges::transform(sum_, learner_.gradient().begin(), [&](float value) {
      return static_cast<float>(static_cast<double>(value) * share);
    });
    return loss * share;
  }

  Learner& learner_;
  const data::Dataset& data_;
  const GradientHook& hook_;
  double clip_;  // 0: any length
  std::vector<float> sum_;
};

// The factor of the learning rate at step `step` of this training's `steps`.
double rate_factor(const TrainOptions& options, std::int64_t step, std::int64_t steps,
                   Place place) {
  if (options.schedule.as<ScheduleOptions>().over == "round") place = {};
  const auto here = static_cast<double>(steps);
  const double before = static_cast<double>(place.round - 1) * here;
  return schedule_factor(options.schedule, before + static_cast<double>(step),
                         static_cast<double>(place.rounds) * here);
}

}  // namespace

void clip(std::span<float> gradient, double longest) {
  if (longest == 0) return;
  const double norm = math::norm(gradient);
  if (!(norm > longest) || !std::isfinite(norm)) return;
  const auto factor = static_cast<float>(longest / norm);
  for (float& value : gradient) value *= factor;
}

TrainOptions::TrainOptions()
    : optimizer(config::make_plugin(optimizer_kinds(), "sgd")),
      schedule(config::make_plugin(schedule_kinds(), "constant")) {}

void TrainOptions::fields(config::Fields& fields) {
  constexpr std::int64_t kMax = 1'000'000'000;
  fields.integer("epochs", epochs, {.min = 1, .max = kMax},
                 "passes over the client's examples in one round");
  fields.integer("steps", steps, {.min = 0, .max = kMax},
                 "steps in one round instead of epochs; 0: count epochs");
  fields.integer("batch_size", batch_size, {.min = 1, .max = kMax}, "examples a batch");
  fields.integer("accumulate", accumulate, {.min = 1, .max = 65536},
                 "batches a step; their gradients are averaged");
  fields.plugin("optimizer", optimizer, optimizer_kinds(), "the clients' optimizer");
  fields.plugin("schedule", schedule, schedule_kinds(), "how the learning rate changes");
  fields.real("clip", clip, {.min = 0}, "longest gradient (Euclidean norm) of a step; 0: any");
  fields.texts("decay_exclude", decay_exclude,
               "parameters without weight decay, by a part of their name; 1d: all with one axis");
  fields.real("label_smoothing", label_smoothing, {.min = 0, .below = 1},
              "share of the target spread over all classes, in training only");
}

std::unique_ptr<Optimizer> make_optimizer(const TrainOptions& options, const Layout& layout) {
  const config::Plugin& plugin = options.optimizer;
  for (const OptimizerEntry& entry : optimizers()) {
    if (entry.kind.name != plugin.kind) continue;
    std::unique_ptr<Optimizer> made = entry.make(*plugin.options, layout.size());
    if (!options.decay_exclude.empty()) made->set_runs(decay_runs(layout, options.decay_exclude));
    return made;
  }
  throw ConfigError(plugin.place + ": train.optimizer.kind is \"" + plugin.kind +
                    "\", which is no optimizer");
}

std::vector<std::vector<std::size_t>> epoch_batches(std::span<const std::size_t> indices,
                                                    std::size_t batch_size, Rng rng) {
  std::vector<std::size_t> order(indices.begin(), indices.end());
  rng.shuffle(std::span(order));
  return batches_of(order, batch_size);
}

std::int64_t steps_of(const TrainOptions& options, std::size_t examples) {
  if (options.steps > 0) return options.steps;
  const auto ceiling = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  const std::int64_t batches = ceiling(static_cast<std::int64_t>(examples), options.batch_size);
  return options.epochs * ceiling(batches, options.accumulate);
}

bool is_plain_sgd(const TrainOptions& options) {
  if (options.clip > 0) return false;
  // Seen from outside, so that it holds for optimizers that are not written yet.
  Layout one;
  one.add("w", "all", {1});
  const auto optimizer = make_optimizer(options, one);
  std::vector<float> weight = {1};
  for (const float gradient : {1.0F, -0.5F, 2.0F}) {
    const float before = weight[0];
    const std::vector<float> slope = {gradient};
    optimizer->step(weight, slope, 0.25);
    if (weight[0] != before - 0.25F * gradient) return false;
  }
  return true;
}

TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng,
                  Place place) {
  const auto optimizer = make_optimizer(options, learner.layout());
  return train(learner, data, indices, options, hook, rng, place, *optimizer);
}

TrainReport train(Learner& learner, const data::Dataset& data, std::span<const std::size_t> indices,
                  const TrainOptions& options, const GradientHook& hook, const Rng& rng,
                  Place place, Optimizer& optimizer) {
  FEDCTL_ASSERT(!indices.empty());
  if (options.label_smoothing > 0 && data.info().task == data::Task::regress) {
    throw ConfigError("train.label_smoothing is set, but the data have no classes", "leave it out");
  }
  learner.set_label_smoothing(options.label_smoothing);
  learner.set_noise(rng.stream("dropout"));
  const double lr = learning_rate(options.optimizer);
  Gradient gradient(learner, data, hook, options.clip);
  const auto size = static_cast<std::size_t>(options.batch_size);
  const auto together = static_cast<std::size_t>(options.accumulate);
  const std::int64_t steps = steps_of(options, indices.size());
  TrainReport report{.examples = static_cast<std::int64_t>(indices.size())};
  for (std::int64_t epoch = 0; report.steps < steps; ++epoch) {
    const auto batches = epoch_batches(indices, size, rng.stream("epoch", epoch));
    for (std::size_t at = 0; at < batches.size() && report.steps < steps; at += together) {
      const auto step = std::span(batches).subspan(at, std::min(together, batches.size() - at));
      report.loss += gradient.of(step);
      const double rate = lr * rate_factor(options, report.steps, steps, place);
      optimizer.step(learner.weights(), learner.gradient(), rate);
      report.path += rate;
      ++report.steps;
      for (const std::vector<std::size_t>& batch : step) {
        for (const std::size_t index : batch) {
          report.tokens += static_cast<std::int64_t>(data.length(index));
        }
      }
    }
  }
  report.loss /= static_cast<double>(report.steps);
  return report;
}

}  // namespace fedctl::learn

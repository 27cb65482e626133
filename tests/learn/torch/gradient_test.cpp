// Gradients of every family with every adapter against central finite differences of the loss.
#include <cmath>

#include "learn/torch/models.hpp"

using namespace fedctl;

namespace {

// d loss / d step along `direction`, by central differences with Richardson extrapolation: the
// error falls with the fourth power of the step, which single precision needs to be large.
double slope(learn::Learner& learner, const data::Batch& batch, const std::vector<float>& direction,
             double step) {
  const std::vector<float> start = test::copy(learner.weights());
  const auto loss_at = [&](double distance) {
    for (std::size_t i = 0; i < start.size(); ++i) {
      learner.weights()[i] = static_cast<float>(static_cast<double>(start[i]) +
                                                distance * static_cast<double>(direction[i]));
    }
    return learner.loss(batch);
  };
  const double wide = (loss_at(2 * step) - loss_at(-2 * step)) / (4 * step);
  const double narrow = (loss_at(step) - loss_at(-step)) / (2 * step);
  std::copy(start.begin(), start.end(), learner.weights().begin());
  return (4 * narrow - wide) / 3;
}

double dot(std::span<const float> a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

double length(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

void require_slope(learn::Learner& learner, const data::Batch& batch,
                   std::span<const float> gradient, const std::vector<float>& direction,
                   double step, double scale) {
  const double expected = slope(learner, batch, direction, step);
  REQUIRE(dot(gradient, direction) == Approx(expected).margin(0.004 * scale).epsilon(0.01));
}

}  // namespace

TEST_CASE("gradients are the slopes of the loss", "[learn][torch][gradient]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  INFO(pair.model << " with " << pair.adapter);
  learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  if (auto* lora = dynamic_cast<learn::LoraOptions*>(spec.adapter.options.get())) {
    lora->targets.clear();  // on every layer at once
    for (const learn::Target& target : learn::family(pair.model).targets) {
      lora->targets.push_back(target.name);
    }
  }
  if (auto* vera = dynamic_cast<learn::VeraOptions*>(spec.adapter.options.get())) {
    vera->targets.clear();
    for (const learn::Target& target : learn::family(pair.model).targets) {
      vera->targets.push_back(target.name);
    }
  }
  if (auto* dora = dynamic_cast<learn::DoraOptions*>(spec.adapter.options.get())) {
    dora->exact_norm = true;  // otherwise it is not the slope, see adapters_test.cpp
  }
  const auto learner = learn::make_factory(spec)->make();
  test::disturb(*learner);
  const data::Batch batch = test::batch_for(spec, 3);
  const double loss = learner->loss_and_gradient(batch);
  CHECK(loss == Approx(learner->loss(batch)).epsilon(1e-6));
  const std::vector<float> gradient = test::copy(learner->gradient());
  const double scale = length(gradient);
  REQUIRE(scale > 1e-3);

  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    std::vector<float> direction(gradient.size());
    for (float& value : direction) value = static_cast<float>(rng.normal());
    const auto unit = static_cast<float>(1 / length(direction));
    for (float& value : direction) value *= unit;
    require_slope(*learner, batch, gradient, direction, 0.002, scale);
  }
  // In every block, the entry whose gradient is largest and one at random.
  Rng rng(99);
  for (const Block& block : learner->layout().blocks()) {
    CAPTURE(block.name);
    std::size_t largest = block.offset;
    for (std::size_t i = block.offset; i < block.offset + block.count; ++i) {
      if (std::abs(gradient[i]) > std::abs(gradient[largest])) largest = i;
    }
    for (const std::size_t entry : {largest, block.offset + rng.below(block.count)}) {
      std::vector<float> direction(gradient.size());
      direction[entry] = 1;
      require_slope(*learner, batch, gradient, direction, 0.002, scale);
    }
    // No block may be left out of the graph.
    CHECK(length(std::span(gradient).subspan(block.offset, block.count)) > 0);
  }
}

TEST_CASE("a step against the gradient lowers the loss", "[learn][torch][gradient]") {
  const test::Pair pair = GENERATE(from_range(test::pairs()));
  INFO(pair.model << " with " << pair.adapter);
  const learn::LearnerSpec spec = test::spec(pair.model, pair.adapter, test::info_for(pair.model));
  const auto learner = learn::make_factory(spec)->make();
  const data::Batch batch = test::batch_for(spec, 4);
  const double before = learner->loss(batch);
  for (int step = 0; step < 40; ++step) {
    learner->loss_and_gradient(batch);
    const std::span<float> weights = learner->weights();
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= 0.05F * learner->gradient()[i];
  }
  CHECK(learner->loss(batch) < before);
}

TEST_CASE("a second gradient does not add to the first", "[learn][torch][gradient]") {
  const learn::LearnerSpec spec = test::spec("vit", "lora", test::images());
  const auto learner = learn::make_factory(spec)->make();
  const data::Batch batch = test::batch_for(spec, 4);
  learner->loss_and_gradient(batch);
  const std::vector<float> first = test::copy(learner->gradient());
  learner->loss_and_gradient(batch);
  CHECK(test::copy(learner->gradient()) == first);
}

#include "learn/train.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "learn/points.hpp"
#include "learn/quadratic.hpp"
#include "support/plugin.hpp"

using namespace fedctl;

namespace {

test::Points random_points(std::size_t count, std::size_t dimension, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<float>> points(count, std::vector<float>(dimension));
  for (auto& point : points) {
    for (float& value : point) value = static_cast<float>(rng.normal());
  }
  return test::Points(std::move(points));
}

std::unique_ptr<learn::Learner> quadratic(const data::Dataset& data) {
  learn::LearnerSpec spec;
  spec.model.kind = "quadratic";
  spec.adapter.kind = "full";
  spec.data = data.info();
  return learn::make_quadratic_factory(spec)->make();
}

learn::TrainOptions options(std::int64_t batch_size, double lr, double momentum = 0) {
  learn::TrainOptions made;
  made.batch_size = batch_size;
  made.optimizer =
      test::plugin(learn::optimizer_kinds(), "sgd", {{"lr", lr}, {"momentum", momentum}});
  return made;
}

std::vector<std::size_t> all_of(const data::Dataset& data) {
  std::vector<std::size_t> indices(data.size());
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  return indices;
}

std::set<std::set<std::size_t>> as_sets(const std::vector<std::vector<std::size_t>>& batches) {
  std::set<std::set<std::size_t>> sets;
  for (const auto& batch : batches) sets.emplace(batch.begin(), batch.end());
  return sets;
}

std::vector<float> weights_of(learn::Learner& learner) {
  return {learner.weights().begin(), learner.weights().end()};
}

}  // namespace

TEST_CASE("an epoch holds every index once, in full batches but the last", "[learn][batches]") {
  Rng rng(GENERATE(range<std::uint64_t>(0, 5)));
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < 100; i += 1 + rng.below(2)) indices.push_back(i);
  const auto batches = learn::epoch_batches(indices, 8, rng.stream("epoch", 0));
  REQUIRE(batches.size() == (indices.size() + 7) / 8);
  std::multiset<std::size_t> seen;
  for (const auto& batch : batches) {
    CHECK((batch.size() == 8 || &batch == &batches.back()));
    seen.insert(batch.begin(), batch.end());
  }
  CHECK(seen == std::multiset<std::size_t>(indices.begin(), indices.end()));

  CHECK(learn::epoch_batches(indices, 8, rng.stream("epoch", 0)) == batches);
  const auto next = learn::epoch_batches(indices, 8, rng.stream("epoch", 1));
  CHECK(as_sets(next) != as_sets(batches));  // other batches, not the same in another order
}

TEST_CASE("training goes through the batches of each epoch's stream", "[learn][train]") {
  const test::Points data = random_points(12, 2, 8);
  const Rng rng(9);
  std::vector<std::vector<float>> expected;
  for (const int epoch : {0, 1}) {
    for (const auto& batch : learn::epoch_batches(all_of(data), 5, rng.stream("epoch", epoch))) {
      const Tensor target = data.gather(batch).at("target");
      expected.emplace_back(target.f32().begin(), target.f32().end());
    }
  }
  auto plan = options(5, 0.1);
  plan.epochs = 2;
  const auto learner = quadratic(data);
  std::size_t step = 0;
  // The gradient is w - mean(target): it tells which batch it came from.
  const auto hook = [&](std::span<const float> weights, std::span<float> gradient) {
    const auto rows = static_cast<float>(expected[step].size()) / 2;
    float mean = 0;
    for (std::size_t i = 0; i < expected[step].size(); i += 2) mean += expected[step][i] / rows;
    CHECK(gradient[0] == Approx(weights[0] - mean).margin(1e-5));
    ++step;
  };
  learn::train(*learner, data, all_of(data), plan, hook, rng);
  CHECK(step == expected.size());
}

TEST_CASE("training follows the closed form of gradient descent", "[learn][train]") {
  const test::Points data = random_points(20, 6, 1);
  const auto learner = quadratic(data);
  auto plan = options(20, 0.1);
  plan.epochs = 15;
  const auto report = learn::train(*learner, data, all_of(data), plan, nullptr, Rng(2));
  CHECK(report.steps == 15);
  CHECK(report.examples == 20);
  // w after t full-batch steps from 0 is (1 - 0.9^t) times the mean.
  const auto batch = data.gather(all_of(data));
  for (std::size_t i = 0; i < 6; ++i) {
    double mean = 0;
    for (std::size_t n = 0; n < 20; ++n) mean += batch.at("target").f32()[n * 6 + i] / 20.0;
    CHECK(learner->weights()[i] == Approx((1 - std::pow(0.9, 15)) * mean).margin(1e-6));
  }
  plan.epochs = 300;
  learn::train(*learner, data, all_of(data), plan, nullptr, Rng(2));
  learner->loss_and_gradient(batch);
  for (const float slope : learner->gradient()) CHECK(std::abs(slope) < 1e-6F);
}

TEST_CASE("the reported loss is the mean over the steps", "[learn][train]") {
  const test::Points data({{1}, {1}, {1}, {1}});
  const auto learner = quadratic(data);
  // w = 0, 0.5: losses 0.5 and 0.125.
  const auto report = learn::train(*learner, data, all_of(data), options(2, 0.5), nullptr, Rng(0));
  CHECK(report.loss == Approx((0.5 + 0.125) / 2));
}

TEST_CASE("tokens are counted, of the examples that were trained on", "[learn][train]") {
  const test::Points data({{0, 0}, {1, 0}, {0, 1}, {1, 1}, {2, 0}}, {1, 2, 3, 4, 5});
  const auto learner = quadratic(data);
  learn::TrainOptions two_epochs = options(2, 0.1);
  two_epochs.epochs = 2;
  CHECK(learn::train(*learner, data, all_of(data), two_epochs, {}, Rng(3)).tokens == 2 * 15);
  learn::TrainOptions step = options(5, 0.1);
  step.steps = 3;
  CHECK(learn::train(*learner, data, all_of(data), step, {}, Rng(3)).tokens == 3 * 15);
}

TEST_CASE("equal streams give equal weights, others do not", "[learn][train]") {
  const test::Points data = random_points(30, 4, 3);
  std::vector<std::vector<float>> results;
  for (const std::uint64_t seed : std::vector<std::uint64_t>{1, 1, 2}) {
    const auto learner = quadratic(data);
    learn::train(*learner, data, all_of(data), options(4, 0.1, 0.9), nullptr, Rng(seed));
    results.push_back(weights_of(*learner));
  }
  CHECK(results[0] == results[1]);
  CHECK(results[0] != results[2]);
}

TEST_CASE("steps count instead of epochs", "[learn][train]") {
  const test::Points data = random_points(10, 3, 4);
  for (const std::int64_t steps : {1, 5, 12}) {  // five batches an epoch
    auto plan = options(2, 0.1);
    plan.epochs = 7;
    plan.steps = steps;
    const auto learner = quadratic(data);
    std::int64_t calls = 0;
    const auto hook = [&](std::span<const float>, std::span<float>) { ++calls; };
    CHECK(learn::train(*learner, data, all_of(data), plan, hook, Rng(5)).steps == steps);
    CHECK(calls == steps);
  }
  // The first of two epochs is the same as one epoch alone.
  auto five = options(2, 0.1), epoch = options(2, 0.1);
  five.steps = 5;
  const auto one = quadratic(data), other = quadratic(data);
  learn::train(*one, data, all_of(data), five, nullptr, Rng(5));
  learn::train(*other, data, all_of(data), epoch, nullptr, Rng(5));
  CHECK(weights_of(*one) == weights_of(*other));
}

TEST_CASE("the hook edits the gradient before the optimizer sees it", "[learn][train]") {
  const test::Points data = random_points(10, 3, 6);
  const auto learner = quadratic(data);
  std::fill(learner->weights().begin(), learner->weights().end(), 2.0F);
  const auto stop = [](std::span<const float> weights, std::span<float> gradient) {
    REQUIRE(weights.size() == gradient.size());
    CHECK(weights[0] == 2.0F);
    CHECK(gradient[0] != 0.0F);
    std::fill(gradient.begin(), gradient.end(), 0.0F);
  };
  learn::train(*learner, data, all_of(data), options(5, 0.1), stop, Rng(7));
  CHECK(weights_of(*learner) == std::vector<float>(3, 2.0F));
}

TEST_CASE("the default optimizer is sgd with lr 0.05 and momentum 0.9", "[learn][train]") {
  const learn::TrainOptions defaults;
  CHECK(defaults.optimizer.kind == "sgd");
  CHECK(learn::learning_rate(defaults.optimizer) == 0.05);
  const test::Points data(std::vector<std::vector<float>>{{1}});
  auto plan = defaults;
  plan.steps = 2;
  const auto learner = quadratic(data);
  learn::train(*learner, data, all_of(data), plan, nullptr, Rng(0));
  // b = -1, -0.9 - 0.95.
  CHECK(learner->weights()[0] == Approx(0.05 + 0.05 * 1.85));
}

TEST_CASE("batches accumulated to a step are as good as one large batch", "[learn][train]") {
  const test::Points data = random_points(75, 5, 11);  // the last step has 11 examples: 8 and 3
  auto small = options(8, 0.1, 0.9), large = options(16, 0.1, 0.9);
  small.epochs = large.epochs = 3;
  small.accumulate = 2;
  const auto one = quadratic(data), other = quadratic(data);
  const auto by_two = learn::train(*one, data, all_of(data), small, nullptr, Rng(4));
  const auto whole = learn::train(*other, data, all_of(data), large, nullptr, Rng(4));
  CHECK(by_two.steps == 15);
  CHECK(whole.steps == 15);
  CHECK(by_two.loss == Approx(whole.loss).epsilon(1e-6));
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(one->weights()[i] == Approx(other->weights()[i]).epsilon(1e-5).margin(1e-6));
  }
  small.steps = 7;
  CHECK(learn::train(*one, data, all_of(data), small, nullptr, Rng(4)).steps == 7);
}

TEST_CASE("a gradient longer than clip is cut to that length, a shorter one is left alone",
          "[learn][train]") {
  const test::Points data(std::vector<std::vector<float>>{{-3, -4}});  // the gradient is (3, 4)
  for (const auto& [clip, expected] :
       std::map<double, double>{{0, 5}, {2.5, 2.5}, {4.99, 4.99}, {6, 5}}) {
    auto plan = options(1, 1);
    plan.clip = clip;
    const auto learner = quadratic(data);
    learn::train(*learner, data, all_of(data), plan, nullptr, Rng(0));
    CHECK(std::hypot(learner->weights()[0], learner->weights()[1]) == Approx(expected));
    CHECK(learner->weights()[1] / learner->weights()[0] == Approx(4.0 / 3));
  }
  // Behind the hook: what the method adds to the gradient counts.
  auto plan = options(1, 1);
  plan.clip = 5;
  const auto learner = quadratic(data);
  const auto twice = [](std::span<const float>, std::span<float> gradient) {
    for (float& value : gradient) value *= 2;
  };
  learn::train(*learner, data, all_of(data), plan, twice, Rng(0));
  CHECK(learner->weights()[0] == Approx(-3));
}

TEST_CASE("label smoothing is refused where there are no labels", "[learn][train]") {
  const test::Points data = random_points(4, 2, 1);
  auto plan = options(2, 0.1);
  plan.label_smoothing = 0.1;
  const auto learner = quadratic(data);
  CHECK_THROWS_AS(learn::train(*learner, data, all_of(data), plan, nullptr, Rng(0)), ConfigError);
}

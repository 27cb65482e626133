#include "learn/schedule.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "learn/points.hpp"
#include "learn/quadratic.hpp"
#include "learn/train.hpp"
#include "support/plugin.hpp"

using namespace fedctl;
using learn::schedule_factor;

namespace {

config::Plugin schedule(const std::string& kind, std::map<std::string, double> values = {}) {
  return test::plugin(learn::schedule_kinds(), kind, std::move(values));
}

}  // namespace

TEST_CASE("the schedules take the values computed by hand", "[learn][schedule]") {
  for (const double step : {0.0, 3.0, 9.0}) {
    CHECK(schedule_factor(schedule("constant"), step, 10) == 1);
  }
  CHECK(schedule_factor(schedule("linear"), 0, 4) == 1);
  CHECK(schedule_factor(schedule("linear"), 1, 4) == 0.75);
  CHECK(schedule_factor(schedule("linear"), 3, 4) == 0.25);
  CHECK(schedule_factor(schedule("cosine"), 0, 4) == 1);
  CHECK(schedule_factor(schedule("cosine"), 1, 4) == Approx(0.5 + std::sqrt(2) / 4));
  CHECK(schedule_factor(schedule("cosine"), 2, 4) == Approx(0.5));
  CHECK(schedule_factor(schedule("cosine"), 3, 4) == Approx(0.5 - std::sqrt(2) / 4));
  CHECK(schedule_factor(schedule("linear", {{"floor", 0.2}}), 1, 5) == Approx(0.8));
  CHECK(schedule_factor(schedule("cosine", {{"floor", 0.5}}), 2, 5) == Approx(0.75));
}

TEST_CASE("the last step has the floor", "[learn][schedule]") {
  for (const char* kind : {"linear", "cosine"}) {
    for (const double steps : {2.0, 3.0, 10.0, 1000.0}) {
      INFO(kind << ", " << steps << " steps");
      const auto floored = schedule(kind, {{"floor", 0.1}});
      CHECK(schedule_factor(floored, 0, steps) == 1);
      CHECK(schedule_factor(floored, steps - 1, steps) == Approx(0.1).epsilon(1e-12));
      CHECK(schedule_factor(schedule(kind, {{"floor", 0.1}, {"warmup_steps", 1}}), steps - 1,
                            steps) == Approx(steps > 2 ? 0.1 : 1));
      CHECK(schedule_factor(schedule(kind), steps - 1, steps) > 0);  // no step is lost
    }
    // A way of one step is all beginning.
    CHECK(schedule_factor(schedule(kind, {{"floor", 0.1}}), 0, 1) == 1);
  }
}

TEST_CASE("the rate rises to lr during warm-up and the rest is the schedule's",
          "[learn][schedule]") {
  const auto by_steps = schedule("linear", {{"warmup_steps", 4}});
  const auto by_share = schedule("linear", {{"warmup", 0.5}});
  const std::vector<double> expected = {0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25};
  for (std::size_t step = 0; step < 8; ++step) {
    CHECK(schedule_factor(by_steps, static_cast<double>(step), 8) == expected[step]);
    CHECK(schedule_factor(by_share, static_cast<double>(step), 8) == expected[step]);
  }
  CHECK(schedule_factor(schedule("constant", {{"warmup_steps", 2}}), 0, 8) == 0.5);
  // Longer than the way: the rate never gets to lr, and never to something undefined.
  CHECK(schedule_factor(schedule("cosine", {{"warmup_steps", 100}}), 7, 8) == 0.08);
}

namespace {

// The steps a training takes from a gradient that is 1 throughout, in units of lr.
std::vector<double> factors(const std::string& over, learn::Place place) {
  const test::Points data(std::vector<std::vector<float>>(4, {0}));
  learn::LearnerSpec spec;
  spec.model.kind = "quadratic";
  spec.adapter.kind = "full";
  spec.data = data.info();
  const auto learner = learn::make_quadratic_factory(spec)->make();
  learn::TrainOptions plan;
  plan.batch_size = 2;
  plan.optimizer = test::plugin(learn::optimizer_kinds(), "sgd", {{"lr", 1}, {"momentum", 0}});
  plan.schedule = schedule("linear");
  dynamic_cast<learn::ScheduleOptions&>(*plan.schedule.options).over = over;
  std::vector<float> before;
  std::vector<double> steps;
  const auto hook = [&](std::span<const float> weights, std::span<float> gradient) {
    gradient[0] = 1;
    before.push_back(weights[0]);
  };
  learn::train(*learner, data, std::vector<std::size_t>{0, 1, 2, 3}, plan, hook, Rng(1), place);
  before.push_back(learner->weights()[0]);
  for (std::size_t i = 1; i < before.size(); ++i) steps.push_back(before[i - 1] - before[i]);
  return steps;
}

}  // namespace

TEST_CASE("a schedule goes over all rounds, or over each anew", "[learn][schedule][train]") {
  // Two steps a round, four rounds: eighths.
  CHECK(factors("run", {1, 4}) == std::vector<double>{1, 0.875});
  CHECK(factors("run", {3, 4}) == std::vector<double>{0.5, 0.375});
  CHECK(factors("run", {4, 4}) == std::vector<double>{0.25, 0.125});
  CHECK(factors("round", {3, 4}) == std::vector<double>{1, 0.5});
}

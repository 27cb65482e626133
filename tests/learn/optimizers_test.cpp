#include <catch2/catch.hpp>
#include <cmath>

#include "learn/train.hpp"
#include "support/plugin.hpp"

using namespace fedctl;

namespace {

std::unique_ptr<learn::Optimizer> make(const std::string& kind,
                                       std::map<std::string, double> values, std::size_t size) {
  for (const learn::OptimizerEntry& entry : learn::optimizers()) {
    if (entry.kind.name != kind) continue;
    return entry.make(*test::plugin(learn::optimizer_kinds(), kind, std::move(values)).options,
                      size);
  }
  throw ConfigError("no optimizer " + kind);
}

// One weight from 2, with gradients 1, -2, 0.5, after each of three steps.
std::vector<float> trajectory(const std::string& kind, std::map<std::string, double> values,
                              double lr) {
  const auto optimizer = make(kind, std::move(values), 1);
  std::vector<float> weight = {2}, path;
  for (const float gradient : {1.0F, -2.0F, 0.5F}) {
    optimizer->step(weight, std::vector<float>{gradient}, lr);
    path.push_back(weight[0]);
  }
  return path;
}

}  // namespace

TEST_CASE("sgd takes the steps computed by hand", "[learn][optimizer]") {
  CHECK(trajectory("sgd", {{"momentum", 0}}, 0.5) == std::vector<float>{1.5F, 2.5F, 2.25F});
  // b = 1, -1.5, -0.25.
  CHECK(trajectory("sgd", {{"momentum", 0.5}}, 0.5) == std::vector<float>{1.5F, 2.25F, 2.375F});
  // g = 1 + 0.5 * 2 = 2; w = 1. g = -2 + 0.5 = -1.5; b = -0.5; w = 1.25. g = 0.5 + 0.625; b =
  // 0.875.
  CHECK(trajectory("sgd", {{"momentum", 0.5}, {"weight_decay", 0.5}}, 0.5) ==
        std::vector<float>{1, 1.25F, 0.8125F});
  CHECK(trajectory("sgd", {{"momentum", 0}, {"weight_decay", 0.5}}, 0.5) ==
        std::vector<float>{1, 1.75F, 1.0625F});
}

TEST_CASE("sgd with nesterov takes the steps computed by hand", "[learn][optimizer]") {
  // b = 1, -1.5, -0.25; steps 0.5 * (g + 0.5 b) = 0.75, -1.375, 0.1875.
  CHECK(trajectory("sgd", {{"momentum", 0.5}, {"nesterov", 1}}, 0.5) ==
        std::vector<float>{1.25F, 2.625F, 2.4375F});
}

TEST_CASE("lion takes the steps computed by hand", "[learn][optimizer]") {
  // beta1 = 0.5, beta2 = 0.75. Directions 0.5 * m + 0.5 * g: 0.5; 0.125 - 1; with m = 0.25 and then
  // 0.1875 - 0.5 = -0.3125, -0.15625 + 0.25: signs +, -, +.
  std::map<std::string, double> values = {{"beta1", 0.5}, {"beta2", 0.75}};
  CHECK(trajectory("lion", values, 0.25) == std::vector<float>{1.75F, 2, 1.75F});
  // A larger beta1: -0.3125 * 0.75 + 0.125 < 0 turns the third step around.
  values["beta1"] = 0.75;
  CHECK(trajectory("lion", values, 0.25) == std::vector<float>{1.75F, 2, 2.25F});
  // The decay takes 0.25 * 0.5 of the weight: 2 * 0.875 - 0.25, 1.5 * 0.875 + 0.25, ...
  values["weight_decay"] = 0.5;
  CHECK(trajectory("lion", values, 0.25) ==
        std::vector<float>{1.5F, 1.5625F, 1.5625F * 0.875F + 0.25F});
}

TEST_CASE("lion stands still without a gradient, and shows one that is not a number",
          "[learn][optimizer]") {
  const auto optimizer = make("lion", {}, 2);
  std::vector<float> weights = {1, 1};
  optimizer->step(weights, std::vector<float>{0, std::nanf("")}, 0.1);
  CHECK(weights[0] == 1);
  CHECK(std::isnan(weights[1]));
}

TEST_CASE("weight decay spares the parameters that are named", "[learn][optimizer]") {
  Layout layout;
  layout.add("layers.0.LayerNorm.weight", "base", {2});
  layout.add("layers.0.dense.weight", "base", {2, 1});
  layout.add("layers.0.dense.bias", "base", {2});
  layout.add("scale", "base", {1});
  using Runs = std::vector<learn::Optimizer::Run>;
  const auto runs = [&](std::vector<std::string> exclude) {
    return learn::decay_runs(layout, exclude);
  };
  CHECK(runs({}) == Runs{{0, 7, true}});
  CHECK(runs({"Bias", "norm"}) == Runs{{0, 2, false}, {2, 2, true}, {4, 2, false}, {6, 1, true}});
  CHECK(runs({"1d"}) == Runs{{0, 2, false}, {2, 2, true}, {4, 3, false}});
  CHECK(runs({"dense"}) == Runs{{0, 2, true}, {2, 4, false}, {6, 1, true}});

  for (const learn::OptimizerEntry& entry : learn::optimizers()) {
    INFO(entry.kind.name);
    const auto decayed = make(entry.kind.name, {{"weight_decay", 0.5}}, 7);
    const auto plain = make(entry.kind.name, {{"weight_decay", 0}}, 7);
    const auto mixed = make(entry.kind.name, {{"weight_decay", 0.5}}, 7);
    mixed->set_runs(runs({"1d"}));
    std::vector<float> with(7, 2), without(7, 2), weights(7, 2), gradient(7);
    for (int step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < 7; ++i) gradient[i] = 0.3F * static_cast<float>(i) - 1;
      decayed->step(with, gradient, 0.1);
      plain->step(without, gradient, 0.1);
      mixed->step(weights, gradient, 0.1);
    }
    for (std::size_t i = 0; i < 7; ++i) {
      CHECK(with[i] != without[i]);
      CHECK(weights[i] == (i == 2 || i == 3 ? with[i] : without[i]));
    }
  }
}

TEST_CASE("adamw takes the steps computed by hand", "[learn][optimizer]") {
  // beta1 = 0.5, beta2 = 0.75: m = 0.5, -0.75, -0.125 over 0.5, 0.75, 0.875;
  // v = 0.25, 1.1875, 0.953125 over 0.25, 0.4375, 0.578125; eps = 0.5, lr = 0.1.
  std::map<std::string, double> values = {
      {"beta1", 0.5}, {"beta2", 0.75}, {"eps", 0.5}, {"weight_decay", 0}};
  const double step1 = 0.1 * 1 / (1 + 0.5);
  const double step2 = 0.1 * -1 / (std::sqrt(1.1875 / 0.4375) + 0.5);
  const double step3 = 0.1 * (-0.125 / 0.875) / (std::sqrt(0.953125 / 0.578125) + 0.5);
  auto path = trajectory("adamw", values, 0.1);
  CHECK(path[0] == Approx(2 - step1).epsilon(1e-6));
  CHECK(path[1] == Approx(2 - step1 - step2).epsilon(1e-6));
  CHECK(path[2] == Approx(2 - step1 - step2 - step3).epsilon(1e-6));
  // The decay multiplies the weight by 1 - 0.1 * 0.5 before each step.
  values["weight_decay"] = 0.5;
  path = trajectory("adamw", values, 0.1);
  const double first = 2 * 0.95 - step1;
  const double second = first * 0.95 - step2;
  CHECK(path[0] == Approx(first).epsilon(1e-6));
  CHECK(path[1] == Approx(second).epsilon(1e-6));
  CHECK(path[2] == Approx(second * 0.95 - step3).epsilon(1e-6));
}

TEST_CASE("optimizers treat every weight by itself", "[learn][optimizer]") {
  for (const learn::OptimizerEntry& entry : learn::optimizers()) {
    INFO(entry.kind.name);
    const std::size_t size = 37;
    const auto together = make(entry.kind.name, {}, size);
    std::vector<std::unique_ptr<learn::Optimizer>> alone;
    for (std::size_t i = 0; i < size; ++i) alone.push_back(make(entry.kind.name, {}, 1));
    Rng rng(1);
    std::vector<float> weights(size, 1), single(size, 1), gradient(size);
    for (int step = 0; step < 5; ++step) {
      for (float& value : gradient) value = static_cast<float>(rng.normal());
      together->step(weights, gradient, 0.1);
      for (std::size_t i = 0; i < size; ++i) {
        alone[i]->step(std::span(single).subspan(i, 1), std::span(gradient).subspan(i, 1), 0.1);
      }
      REQUIRE(weights == single);
    }
  }
}

TEST_CASE("every optimizer has a learning rate", "[learn][optimizer]") {
  for (const config::Kind& kind : learn::optimizer_kinds()) {
    CHECK(learn::learning_rate(test::plugin(learn::optimizer_kinds(), kind.name)) > 0);
    CHECK(learn::learning_rate(test::plugin(learn::optimizer_kinds(), kind.name, {{"lr", 0.25}})) ==
          0.25);
  }
}

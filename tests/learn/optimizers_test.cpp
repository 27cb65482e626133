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

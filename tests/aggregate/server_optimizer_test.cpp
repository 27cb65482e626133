#include "aggregate/server_optimizer.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/errors.hpp"
#include "base/rng.hpp"
#include "support/plugin.hpp"

using namespace fedctl;
using aggregate::ServerOptimizer;

namespace {

std::unique_ptr<ServerOptimizer> make(const std::string& kind,
                                      std::map<std::string, double> options, std::size_t size) {
  for (const auto& entry : aggregate::server_optimizers()) {
    if (entry.kind.name != kind) continue;
    const auto plugin = test::plugin(aggregate::server_optimizer_kinds(), kind, std::move(options));
    return entry.make(*plugin.options, size);
  }
  throw ConfigError("no server optimizer " + kind);
}

std::vector<float> random_delta(std::size_t size, Rng& rng) {
  std::vector<float> delta(size);
  for (float& value : delta) value = static_cast<float>(rng.normal());
  return delta;
}

// One weight from 1, with differences 1, -2, 0.5, after each of three rounds.
std::vector<float> trajectory(const std::string& kind, std::map<std::string, double> options) {
  const auto optimizer = make(kind, std::move(options), 1);
  std::vector<float> weight = {1}, path;
  for (const float delta : {1.0F, -2.0F, 0.5F}) {
    optimizer->step(weight, std::vector<float>{delta});
    path.push_back(weight[0]);
  }
  return path;
}

void check_path(const std::vector<float>& path, const std::vector<double>& expected) {
  REQUIRE(path.size() == expected.size());
  for (std::size_t i = 0; i < path.size(); ++i) CHECK(path[i] == Approx(expected[i]).epsilon(1e-6));
}

}  // namespace

// The steps by hand, with lr 0.1 (momentum: 1), beta1 = 0.5, beta2 = 0.75, tau = 0.5. What is not a
// fraction is written as the square root it is.
TEST_CASE("server optimizers take the steps computed by hand", "[aggregate][server_optimizer]") {
  // x = 1 + 1, - 2, + 0.5.
  check_path(trajectory("sgd", {}), {2, 0, 0.5});
  check_path(trajectory("sgd", {{"lr", 0.5}}), {1.5, 0.5, 0.75});
  // v = -1; -0.5 + 2 = 1.5; 0.75 - 0.5 = 0.25.
  check_path(trajectory("momentum", {{"beta", 0.5}}), {2, 0.5, 0.25});
  // v as before; x = 1 + 0.5 + 1, - 0.75 - 2, - 0.125 + 0.5.
  check_path(trajectory("momentum", {{"beta", 0.5}, {"nesterov", 1}}), {2.5, -0.25, 0.125});
  // v = 1, 5, 5.25; m = delta.
  const double adagrad2 = 1 + 0.1 / 1.5 - 0.2 / (std::sqrt(5.0) + 0.5);
  check_path(trajectory("adagrad", {{"tau", 0.5}}),
             {1 + 0.1 / 1.5, adagrad2, adagrad2 + 0.05 / (std::sqrt(5.25) + 0.5)});
  // m = 0.5, -0.75, -0.125; Adam's v = 0.25, 1.1875, 0.953125.
  const std::map<std::string, double> options = {
      {"lr", 0.1}, {"beta1", 0.5}, {"beta2", 0.75}, {"tau", 0.5}};
  const double adam2 = 1.05 - 0.075 / (std::sqrt(1.1875) + 0.5);
  check_path(trajectory("adam", options),
             {1.05, adam2, adam2 - 0.0125 / (std::sqrt(0.953125) + 0.5)});
  // Yogi's v = 0.25; 0.25 + 0.25 * 4 = 1.25 (4 > v); 1.25 - 0.25 * 0.25 = 1.1875 (0.25 < v).
  const double yogi2 = 1.05 - 0.075 / (std::sqrt(1.25) + 0.5);
  check_path(trajectory("yogi", options),
             {1.05, yogi2, yogi2 - 0.0125 / (std::sqrt(1.1875) + 0.5)});
}

TEST_CASE("adam's bias correction is Flower's", "[aggregate][server_optimizer]") {
  // Rounds 1, 2, 3 take powers 2, 3, 4 of beta1 = 0.5 and beta2 = 0.75:
  // sqrt(1 - 0.5625) / 0.75, sqrt(1 - 0.421875) / 0.875, sqrt(1 - 0.31640625) / 0.9375.
  const double first = std::sqrt(0.4375) / 0.75;
  const double second = std::sqrt(0.578125) / 0.875;
  const double third = std::sqrt(0.68359375) / 0.9375;
  const double x1 = 1 + 0.05 * first;
  const double x2 = x1 - 0.075 * second / (std::sqrt(1.1875) + 0.5);
  const double x3 = x2 - 0.0125 * third / (std::sqrt(0.953125) + 0.5);
  check_path(
      trajectory(
          "adam",
          {{"lr", 0.1}, {"beta1", 0.5}, {"beta2", 0.75}, {"tau", 0.5}, {"bias_correction", 1}}),
      {x1, x2, x3});
}

TEST_CASE("the start value of v counts", "[aggregate][server_optimizer]") {
  // v = 4 + 1.
  CHECK(trajectory("adagrad", {{"tau", 0.5}, {"v_initial", 4}})[0] ==
        Approx(1 + 0.1 / (std::sqrt(5.0) + 0.5)).epsilon(1e-6));
}

TEST_CASE("yogi leaves v alone when it is right", "[aggregate][server_optimizer]") {
  // The first difference is 1, and so is v: sign(0) = 0.
  const auto path = trajectory(
      "yogi", {{"lr", 0.1}, {"beta1", 0}, {"beta2", 0.75}, {"tau", 0.5}, {"v_initial", 1}});
  CHECK(path[0] == Approx(1 + 0.1 / 1.5).epsilon(1e-6));
}

TEST_CASE("momentum without momentum is sgd, bit for bit", "[aggregate][server_optimizer]") {
  for (const double lr : {1.0, 0.37}) {
    const auto sgd = make("sgd", {{"lr", lr}}, 100);
    const auto momentum = make("momentum", {{"lr", lr}, {"beta", 0}}, 100);
    Rng rng(1);
    std::vector<float> x = random_delta(100, rng), y = x;
    for (int round = 0; round < 20; ++round) {
      const auto delta = random_delta(100, rng);
      sgd->step(x, delta);
      momentum->step(y, delta);
      REQUIRE(x == y);
    }
  }
}

TEST_CASE("an adaptive rule that is ablated is sgd, bit for bit", "[aggregate][server_optimizer]") {
  for (const char* kind : {"adagrad", "adam", "yogi"}) {
    INFO(kind);
    // sqrt(v) + tau stays 0.5, and with it the step 4 times the difference.
    std::map<std::string, double> options = {{"lr", 2}, {"tau", 0.25}, {"v_initial", 0.0625}};
    if (kind != std::string("adagrad")) options["beta1"] = 0;
    CHECK(trajectory(kind, options) != trajectory("sgd", {{"lr", 4}}));
    options["ablate"] = 1;
    CHECK(trajectory(kind, options) == trajectory("sgd", {{"lr", 4}}));
  }
}

TEST_CASE("a server optimizer goes on where its state was saved", "[aggregate][server_optimizer]") {
  for (const auto& entry : aggregate::server_optimizers()) {
    INFO(entry.kind.name);
    std::map<std::string, double> options;
    if (entry.kind.name == "adam") options = {{"bias_correction", 1}};
    const auto straight = make(entry.kind.name, options, 30);
    auto broken = make(entry.kind.name, options, 30);
    Rng rng(2);
    std::vector<float> x(30), y(30);
    for (int round = 0; round < 8; ++round) {
      if (round == 3) {
        const TensorMap state = broken->state();
        broken = make(entry.kind.name, options, 30);
        broken->restore(state);
      }
      const auto delta = random_delta(30, rng);
      straight->step(x, delta);
      broken->step(y, delta);
      REQUIRE(x == y);
    }
    CHECK(straight->state() == broken->state());
  }
}

TEST_CASE("a state that is not its own is refused and changes nothing",
          "[aggregate][server_optimizer]") {
  const auto adam = make("adam", {}, 4);
  std::vector<float> weights(4);
  adam->step(weights, std::vector<float>{1, 2, 3, 4});
  const TensorMap good = adam->state();
  auto with = [&](const std::string& name, const Tensor& tensor) {
    TensorMap state = good;
    state[name] = tensor;
    return state;
  };
  Tensor negative = good.at("v");
  negative.bytes.back() |= std::byte{0x80};  // the sign of the last double
  const std::int64_t before_first[] = {-1};
  TensorMap missing = good;
  missing.erase("m");
  for (const TensorMap& bad :
       {TensorMap{}, missing, with("extra", good.at("m")), make("adam", {}, 5)->state(),
        with("m", Tensor::zeros(DType::f32, {4})), with("m", Tensor::zeros(DType::f64, {2, 2})),
        with("m", Tensor{DType::f64, {4}, Bytes(8)}), with("v", negative),
        with("round", Tensor::of(before_first, {1}))}) {
    CHECK_THROWS_AS(adam->restore(bad), WireError);
    CHECK(adam->state() == good);
  }
  CHECK_THROWS_AS(make("sgd", {}, 4)->restore(good), WireError);
  CHECK_THROWS_AS(make("momentum", {}, 5)->restore(make("momentum", {}, 4)->state()), WireError);
}

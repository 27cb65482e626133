// Ferret against the acceptance list of its sheet.
#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/projection.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

std::vector<float> some_vector(std::size_t d, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(d);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

KeyOf keys(std::uint64_t draw) {
  return [draw](std::size_t k) { return Rng(draw).stream("vector", k).key(); };
}

std::vector<float> there_and_back(const Basis& basis, std::span<const float> x, std::size_t count,
                                  std::uint64_t draw) {
  std::vector<float> out(x.size());
  reconstruct(basis, project(basis, x, count, keys(draw)), keys(draw), 1, 0, out);
  return out;
}

double pull(PeerId id, std::span<const float> w, std::span<float> slope) {
  Rng rng = Rng(31).stream("optimum", id);
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    const double away = w[j] - (2 + rng.normal());
    if (!slope.empty()) slope[j] = static_cast<float>(away);
    loss += 0.5 * away * away;
  }
  return loss;
}

}  // namespace

TEST_CASE("ferret: the second moment of its bases", "[methods][ferret]") {
  for (const auto& [d, rho] : {std::pair<std::size_t, double>{1, 0.291125},
                               {4, 0.0805892},
                               {16, 0.0206602},
                               {100, 0.00332889},
                               {10'000, 3.33329e-5}}) {
    INFO(d);
    const Basis basis("truncated", d);
    CHECK(basis.rho() == Approx(rho).epsilon(1e-5));
    double square = 0, most = 0;
    const std::size_t vectors = 200'000 / d + 1;
    std::vector<float> v(d);
    for (std::size_t k = 0; k < vectors; ++k) {
      basis.fill(k, v);
      square += math::dot(v, v) / static_cast<double>(vectors * d);
      for (const float value : v) most = std::max(most, std::abs(double{value}));
    }
    CHECK(square == Approx(rho).epsilon(0.01));
    CHECK(most <= 1 / std::sqrt(static_cast<double>(d)) * 1.000001);
    CHECK(most >= 0.99 / std::sqrt(static_cast<double>(d)));
  }
}

TEST_CASE("ferret: unbiased, with the error of the sheet", "[methods][ferret]") {
  constexpr std::size_t kSize = 64, kCount = 16, kDraws = 4000;
  const std::vector<float> x = some_vector(kSize, 1);
  const double square = math::dot(x, x);
  for (const auto& [kind, expected] :
       {std::pair<const char*, double>{"truncated", (64 + 1.8 - 2) / 16}, {"sign", 63.0 / 16}}) {
    INFO(kind);
    const Basis basis(kind, kSize);
    std::vector<double> mean(kSize);
    double error = 0;
    for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
      const std::vector<float> y = there_and_back(basis, x, kCount, draw);
      for (std::size_t i = 0; i < kSize; ++i) mean[i] += y[i] / double{kDraws};
      error += std::pow(math::distance(x, y), 2) / square / kDraws;
    }
    double bias = 0;
    for (std::size_t i = 0; i < kSize; ++i) bias += std::pow(mean[i] - x[i], 2) / square;
    CHECK(error == Approx(expected).epsilon(0.03));
    CHECK(bias <= 2 * error / kDraws);
    // Falls as 1 / K.
    double finer = 0;
    for (std::uint64_t draw = 0; draw < 400; ++draw) {
      finer += std::pow(math::distance(x, there_and_back(basis, x, 16 * kCount, draw)), 2);
    }
    CHECK(finer / 400 / square == Approx(expected / 16).epsilon(0.06));
  }
}

TEST_CASE("ferret: blocks, and how coordinates are dealt out to them", "[methods][ferret]") {
  // (d_l - 0.2) |x_l|^2 / K_l in sum; least for K_l as |x_l| sqrt(d_l).
  const std::vector<std::size_t> sizes = {16, 256, 64};
  const std::vector<double> lengths = {3, 1, 2};
  const auto error = [&](const std::vector<std::size_t>& counts) {
    double sum = 0;
    for (std::size_t l = 0; l < sizes.size(); ++l) {
      std::vector<float> x = some_vector(sizes[l], l);
      const double norm = math::norm(x);
      for (float& value : x) value *= static_cast<float>(lengths[l] / norm);
      const Basis basis("truncated", sizes[l]);
      for (std::uint64_t draw = 0; draw < 300; ++draw) {
        sum += std::pow(math::distance(x, there_and_back(basis, x, counts[l], draw)), 2) / 300;
      }
    }
    return sum;
  };
  const auto predicted = [&](const std::vector<std::size_t>& counts) {
    double sum = 0;
    for (std::size_t l = 0; l < sizes.size(); ++l) {
      sum += (static_cast<double>(sizes[l]) - 0.2) * std::pow(lengths[l], 2) /
             static_cast<double>(counts[l]);
    }
    return sum;
  };
  const std::vector<double> best = {3 * 4, 1 * 16, 2 * 8};
  const std::vector<std::size_t> by_error = allot(best, 32), by_norm = {45, 15, 30};
  CHECK(by_error == std::vector<std::size_t>{24, 32, 32});
  CHECK(error(by_error) == Approx(predicted(by_error)).epsilon(0.05));
  CHECK(error(by_norm) == Approx(predicted(by_norm)).epsilon(0.05));
  CHECK(predicted(by_error) < predicted(by_norm));

  Layout layout;
  layout.add("a", "adapter", {10});
  layout.add("b", "adapter", {4, 5});
  layout.add("c", "adapter", {3});
  layout.add("d", "adapter", {4});
  layout.add("e", "adapter", {2});
  CHECK(packed_blocks(layout) == std::vector<Run>{{0, 10}, {10, 20}, {30, 7}, {37, 2}});
  CHECK(allot(std::vector<double>{0, 0}, 10) == std::vector<std::size_t>{2, 2});
}

TEST_CASE("ferret: shared bases are linear", "[methods][ferret]") {
  constexpr std::size_t kSize = 50, kCount = 20;
  const Basis basis("truncated", kSize);
  std::vector<float> mean_gamma(kCount), mean(kSize);
  for (std::uint64_t client = 0; client < 4; ++client) {
    const std::vector<float> x = some_vector(kSize, client);
    const std::vector<float> gammas = project(basis, x, kCount, keys(9));
    for (std::size_t k = 0; k < kCount; ++k) mean_gamma[k] += gammas[k] / 4;
    reconstruct(basis, gammas, keys(9), 0.25, 0, mean);
  }
  std::vector<float> once(kSize);
  reconstruct(basis, mean_gamma, keys(9), 1, 0, once);
  CHECK(math::distance(mean, once) < 1e-5 * math::norm(mean));
}

TEST_CASE("ferret: many coordinates are fedavg; replicas and bytes", "[methods][ferret]") {
  constexpr std::size_t kSize = 24;
  const test::Problem toy(4, kSize, pull, 0.1);
  for (const double shared : {0.0, 1.0}) {
    INFO("shared " << shared);
    test::Game game = toy.game("ferret", {{"coordinates", 4000}, {"shared", shared}});
    test::choose(game.method, "scalars", "float32");
    test::Game averaged = toy.game("fedavg");
    for (test::Game* one : {&game, &averaged}) {
      one->plan.rounds = 1;
      one->plan.train.steps = 5;
    }
    const Played many = play(game), exact = play(averaged);
    REQUIRE(many.error.empty());
    CHECK(math::distance(many.last(), exact.last()) < 0.1 * math::norm(exact.last()));

    test::Game few = toy.game("ferret", {{"coordinates", 12}, {"shared", shared}});
    few.plan.rounds = 120;
    few.plan.per_round = 2;
    few.plan.train.steps = 2;
    few.lost_sends = {8};
    const Played played = play(few);
    REQUIRE(played.error.empty());
    for (const Message& client : played.clients) {
      const wire::Expect state(client, "state");
      const auto round = static_cast<std::size_t>(state.integer("round", 1, 119));
      CHECK(std::ranges::equal(state.f32("weights", {kSize}), played.weights[round - 1]));
    }
    // 16-bit coordinates; K as a word where bases are the client's own.
    CHECK(played.bytes[50].up.payload == 2 * (12 * 2 + (shared > 0 ? 0 : 2)));
    std::vector<double> mean(kSize);
    const std::vector<float> zero(kSize);
    double start = 0, end = 0;
    for (PeerId id = 0; id < 4; ++id) {
      start += pull(id, zero, {});
      end += pull(id, played.last(), {});
    }
    CHECK(end < 0.5 * start);
  }
}

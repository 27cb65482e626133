// fedbuff and fedasync: reductions, staleness, and what stragglers cost.
#include "methods/detail/buffered.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

constexpr std::size_t kSize = 12;

std::vector<double> optimum(PeerId id) {
  Rng rng = Rng(21).stream("optimum", id);
  std::vector<double> values(kSize);
  for (double& value : values) value = 3 + rng.normal();
  return values;
}

double pull(PeerId id, std::span<const float> w, std::span<float> slope) {
  const std::vector<double> o = optimum(id);
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    const double away = w[j] - o[j];
    if (!slope.empty()) slope[j] = static_cast<float>(away);
    loss += 0.5 * away * away;
  }
  return loss;
}

}  // namespace

TEST_CASE("staleness weights", "[methods][buffered]") {
  StalenessOptions options;
  CHECK(options.weight(0) == 1);
  CHECK(options.weight(3) == 0.5);
  options.kind = "constant";
  CHECK(options.weight(9) == 1);
  options.kind = "hinge";
  options.a = 10;
  CHECK(options.weight(4) == 1);
  CHECK(options.weight(6) == Approx(1 / 21.0));
}

TEST_CASE("fedbuff: a buffer of all clients is fedavg, bit for bit", "[methods][buffered]") {
  const test::Problem toy(5, kSize, pull, 0.1);
  test::Game buffered = toy.game("fedbuff", {{"buffer", 5}});
  test::Game averaged = toy.game("fedavg");
  for (test::Game* game : {&buffered, &averaged}) {
    game->plan.rounds = 12;
    game->plan.train.steps = 3;
    game->plan.step_ms = 10;
    game->plan.slow_share = 0.4;
    game->plan.slow_factor = 10;
  }
  const Played played = play(buffered);
  CHECK(played.error.empty());
  CHECK(played.weights == play(averaged).weights);
  for (const RoundReport& report : played.reports) {
    CHECK(report.staleness == 0.0);
    CHECK(report.replied == 5);
  }
}

TEST_CASE("fedasync: without delay and mixing it is one client after the other",
          "[methods][buffered]") {
  const test::Problem toy(1, kSize, pull, 0.1);
  test::Game game = toy.game("fedasync", {{"mixing", 1}, {"mu", 0}});
  game.plan.rounds = 20;
  const Played played = play(game);
  REQUIRE(played.error.empty());
  const std::vector<double> o = optimum(0);
  for (std::size_t round = 1; round <= 20; ++round) {
    for (std::size_t j = 0; j < kSize; ++j) {
      const double expected = o[j] * (1 - std::pow(0.9, static_cast<double>(round)));
      CHECK(played.weights[round - 1][j] == Approx(expected).epsilon(1e-5));
    }
  }
  // The proximal term shortens what several steps do.
  game.plan.rounds = 1;
  game.plan.train.steps = 10;
  const double free = math::norm(play(game).last());
  test::Game held = toy.game("fedasync", {{"mixing", 1}, {"mu", 2}});
  held.plan.rounds = 1;
  held.plan.train.steps = 10;
  CHECK(math::norm(play(held).last()) < 0.6 * free);
}

TEST_CASE("staleness is counted in versions, and can be too much", "[methods][buffered]") {
  const test::Problem toy(8, kSize, pull, 0.1);
  for (const char* kind : {"fedbuff", "fedasync"}) {
    INFO(kind);
    std::map<std::string, double> options;
    if (kind == std::string("fedbuff")) options["buffer"] = 2;
    test::Game game = toy.game(kind, options);
    game.plan.rounds = 60;
    game.plan.per_round = 4;
    game.plan.step_ms = 10;
    game.plan.slow_share = 0.3;
    game.plan.slow_factor = 10;
    // Versions that tasks were of, against those of the answers.
    std::map<PeerId, std::int64_t> asked;
    std::int64_t oldest = 0, version = 0;
    game.spy = [&](PeerId id, const Message& task) {
      const std::int64_t round = wire::Expect(task, "train").integer("round", 1, 60);
      version = std::max(version, round - 1);
      if (asked.contains(id)) oldest = std::max(oldest, version - asked[id]);
      asked[id] = round - 1;
    };
    const Played played = play(game);
    REQUIRE(played.error.empty());
    double most = 0;
    for (const RoundReport& report : played.reports) {
      REQUIRE(report.staleness.has_value());
      most = std::max(most, *report.staleness);
    }
    CHECK(most > 1);
    CHECK(most <= static_cast<double>(oldest));
    CHECK(played.all_bytes().up.payload % (4 * kSize) == 0);

    options["staleness_max"] = 1;
    test::Game strict = toy.game(kind, options);
    strict.plan = game.plan;
    std::int64_t rejected = 0;
    const Played refused = play(strict);
    REQUIRE(refused.error.empty());
    for (const RoundReport& report : refused.reports) {
      rejected += report.rejected;
      CHECK(*report.staleness <= 1);
    }
    CHECK(rejected > 0);
  }
}

TEST_CASE("clients that are lost or lie free their places", "[methods][buffered]") {
  const test::Problem toy(6, kSize, pull, 0.1);
  test::Game game = toy.game("fedbuff", {{"buffer", 2}});
  game.plan.rounds = 30;
  game.plan.per_round = 3;
  game.plan.step_ms = 10;
  game.lost_sends = {0, 1, 2, 10, 20};
  game.lies = {{4, Message("update")}};
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(played.reports.size() == 30);
  std::int64_t lost = 0, rejected = 0;
  for (const RoundReport& report : played.reports) {
    lost += report.lost;
    rejected += report.rejected;
  }
  CHECK(lost == 5);
  CHECK(rejected > 3);
}

TEST_CASE("fedbuff: ten times slower clients do not hold up the others", "[methods][buffered]") {
  constexpr std::int64_t kClients = 50;
  std::vector<double> mean(kSize);
  for (PeerId id = 0; id < kClients; ++id) {
    const std::vector<double> own = optimum(id);
    for (std::size_t j = 0; j < kSize; ++j) mean[j] += own[j] / kClients;
  }
  // Virtual time to within a tenth of the first distance.
  const auto seconds_of = [&](const std::string& kind, std::map<std::string, double> options) {
    const test::Problem toy(kClients, kSize, pull, 0.05);
    test::Game game = toy.game(kind, options);
    game.plan.rounds = 2000;
    game.plan.per_round = 10;
    game.plan.train.steps = 4;
    game.plan.step_ms = 100;
    game.plan.slow_share = 0.2;
    game.plan.slow_factor = 10;
    game.plan.deadline_s = 1000;
    const Played played = play(game);
    REQUIRE(played.error.empty());
    double start = 0, time = 0;
    for (const double value : mean) start += value * value;
    for (std::size_t round = 0; round < played.weights.size(); ++round) {
      time += (played.reports[round].train_ms + played.reports[round].wait_ms) * 1e-3;
      double square = 0;
      for (std::size_t j = 0; j < kSize; ++j) {
        square += std::pow(played.weights[round][j] - mean[j], 2);
      }
      if (square < 0.01 * start) return time;
    }
    return 1e9;
  };
  const double fedavg = seconds_of("fedavg", {});
  const double fedbuff = seconds_of("fedbuff", {{"buffer", 5}});
  const double fedasync = seconds_of("fedasync", {{"mixing", 0.3}});
  WARN("virtual seconds to a tenth of the distance: fedavg " << fedavg << ", fedbuff " << fedbuff
                                                             << ", fedasync " << fedasync);
  CHECK(fedavg >= 3 * fedbuff);
}

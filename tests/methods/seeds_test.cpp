// The methods that send numbers for seeds, against the acceptance lists of their sheets: fedkseed,
// decomfl with HiSo, just_one_byte.
#include "methods/detail/scalars.hpp"
#include "methods/detail/seeds.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "math/matrix.hpp"
#include "math/normals.hpp"
#include "math/vectors.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

// Client i: sum_j c_j (w_j - o_ij)^2 / 2.
struct Quadratic {
  std::vector<double> curvature;
  std::vector<std::vector<double>> optimum;  // by client
  double operator()(PeerId id, std::span<const float> w, std::span<float> slope) const {
    const std::vector<double>& o = optimum[static_cast<std::size_t>(id)];
    double loss = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      const double away = w[j] - o[j], own = curvature[j] * away;
      if (!slope.empty()) slope[j] = static_cast<float>(own);
      loss += 0.5 * own * away;
    }
    return loss;
  }
};

Quadratic unequal(std::size_t clients, std::size_t d, std::uint64_t seed) {
  Rng rng(seed);
  Quadratic made;
  for (std::size_t j = 0; j < d; ++j) made.curvature.push_back(rng.uniform(0.5, 2));
  for (std::size_t i = 0; i < clients; ++i) {
    made.optimum.emplace_back();
    for (std::size_t j = 0; j < d; ++j) made.optimum.back().push_back(rng.normal());
  }
  return made;
}

std::vector<double> direction(std::uint64_t key, std::size_t d) {
  std::vector<float> z(d);
  math::fill_normals(key, 0, z);
  return {z.begin(), z.end()};
}

double slope_of(const Quadratic& problem, std::size_t client, std::span<const double> w,
                std::span<const double> z) {
  double slope = 0;  // of a quadratic the two-point slope is exact
  for (std::size_t j = 0; j < w.size(); ++j) {
    slope += z[j] * problem.curvature[j] * (w[j] - problem.optimum[client][j]);
  }
  return slope;
}

double worst(std::span<const float> a, std::span<const double> b) {
  double most = 0;
  for (std::size_t j = 0; j < a.size(); ++j) most = std::max(most, std::abs(a[j] - b[j]));
  return most;
}

const Rng kCommon = Rng(1).stream("common");

Rng client_rng(std::size_t id) { return Rng(1).stream("client", id); }

// The share of w - start that is outside the span of K directions.
double outside_span(std::span<const float> w, std::size_t count) {
  math::Matrix columns(w.size(), count);
  for (std::size_t k = 0; k < count; ++k) {
    const std::vector<double> z = direction(kCommon.stream("direction", k).key(), w.size());
    for (std::size_t j = 0; j < w.size(); ++j) columns.at(j, k) = z[j];
  }
  const math::Matrix q = math::qr(columns).q;
  std::vector<double> rest(w.begin(), w.end());
  for (std::size_t k = 0; k < count; ++k) {
    double along = 0;
    for (std::size_t j = 0; j < w.size(); ++j) along += q.at(j, k) * w[j];
    for (std::size_t j = 0; j < w.size(); ++j) rest[j] -= along * q.at(j, k);
  }
  double square = 0;
  for (const double value : rest) square += value * value;
  return std::sqrt(square) / math::norm(w);
}

}  // namespace

TEST_CASE("slopes: exact on a quadratic, and their moments are those of the sheets",
          "[methods][seeds]") {
  constexpr std::size_t kSize = 20;
  const Quadratic problem = unequal(1, kSize, 3);
  const test::Problem toy(1, kSize, problem);
  learn::LearnerPool::Lease learner = toy.game("fedavg").learners->acquire();
  const data::Batch batch = toy.game("fedavg").data->gather(std::vector<std::size_t>{0});
  const Directions directions(kSize);
  learner->loss_and_gradient(batch);
  const std::vector<double> gradient(learner->gradient().begin(), learner->gradient().end());
  const std::vector<double> w(kSize);
  double length = 0;
  for (const double value : gradient) length += value * value;
  for (const double distance : {1e-2, 1.0, 30.0}) {
    Probe probe(*learner, directions, distance);
    for (std::uint64_t key = 0; key < 50; ++key) {
      const double exact = slope_of(problem, 0, w, direction(key, kSize));
      CHECK(probe.central(key, batch).slope == Approx(exact).epsilon(1e-3).margin(2e-4));
    }
    // There and back.
    CHECK(worst(learner->weights(), w) < 1e-5 * (1 + distance));
  }
  constexpr int kDraws = 100'000;
  std::vector<double> mean(kSize), square(kSize);
  double norm = 0, norm_square = 0;
  for (std::uint64_t key = 0; key < kDraws; ++key) {
    const std::vector<double> z = direction(key, kSize);
    const double g = slope_of(problem, 0, w, z);
    double own = 0;
    for (std::size_t j = 0; j < kSize; ++j) {
      mean[j] += g * z[j] / kDraws;
      square[j] += g * z[j] * g * z[j] / kDraws;
      own += g * z[j] * g * z[j];
    }
    norm += own / kDraws;
    norm_square += own * own / kDraws;
  }
  int beyond = 0;
  for (std::size_t j = 0; j < kSize; ++j) {
    const double error = std::sqrt((square[j] - mean[j] * mean[j]) / kDraws);
    beyond += std::abs(mean[j] - gradient[j]) > 3 * error ? 1 : 0;
  }
  CHECK(beyond <= 1);  // of 20, at three standard errors
  const double error = std::sqrt((norm_square - norm * norm) / kDraws);
  CHECK(std::abs(norm - (kSize + 2) * length) < 3 * error);
}

TEST_CASE("fedkseed: the sums give the weighted mean of the clients' weights",
          "[methods][seeds][fedkseed]") {
  constexpr std::size_t kClients = 3, kSize = 30, kSteps = 12;
  const Quadratic problem = unequal(kClients, kSize, 4);
  const test::Problem toy(kClients, kSize, problem, 0.01);
  test::Game game = toy.game("fedkseed", {{"candidates", 64}, {"probe", 0.1}});
  game.plan.rounds = 1;
  game.plan.train.steps = kSteps;
  game.shares[1] = {1, 1};  // twice the weight
  const Played played = play(game);
  REQUIRE(played.error.empty());
  std::vector<double> mean(kSize);
  for (std::size_t i = 0; i < kClients; ++i) {
    std::vector<double> w(kSize);
    Rng draws = client_rng(i).stream("directions", 1);
    for (std::size_t step = 0; step < kSteps; ++step) {
      const std::uint64_t j = draws.below(64);
      const std::vector<double> z = direction(kCommon.stream("direction", j).key(), kSize);
      const double g = slope_of(problem, i, w, z);
      for (std::size_t n = 0; n < kSize; ++n) w[n] -= 0.01 * g * z[n];
    }
    for (std::size_t n = 0; n < kSize; ++n) mean[n] += w[n] * (i == 1 ? 2 : 1) / 4;
  }
  double length = 0;
  for (const double value : mean) length = std::max(length, std::abs(value));
  CHECK(worst(played.last(), mean) < 1e-5 * std::max(1.0, length));
  // 4 K down would be 256: nothing has changed yet. 6 bytes a step up.
  CHECK(played.bytes[0].down.payload == 0);
  CHECK(played.bytes[0].up.payload == kClients * 6 * kSteps);
}

TEST_CASE("fedkseed: who was away has the weights of who was not, bit for bit",
          "[methods][seeds][fedkseed]") {
  constexpr std::size_t kClients = 6, kSize = 30;
  const test::Problem toy(kClients, kSize, unequal(kClients, kSize, 5), 0.01);
  for (const bool half : {false, true}) {
    test::Game game = toy.game("fedkseed", {{"candidates", 40}, {"probe", 0.1}});
    if (half) test::choose(game.method, "scalars", "float16");
    game.plan.rounds = 40;
    game.plan.per_round = 2;
    game.plan.train.steps = 3;
    // What each client makes of its task, beside the weights that the server had.
    std::vector<std::unique_ptr<ClientMethod>> twins;
    JobPlan plan = game.plan;
    plan.common = kCommon;
    plan.initial.assign(kSize, 0.0F);
    for (std::size_t i = 0; i < kClients; ++i) {
      twins.push_back(method("fedkseed").make_client(*game.method.options, plan));
    }
    std::map<std::int64_t, std::vector<std::vector<float>>> rebuilt;
    std::int64_t longest = 0;
    std::map<PeerId, std::int64_t> last;
    game.spy = [&](PeerId id, const Message& task) {
      ClientContext context{plan, id, *game.learners, *game.data, {}, Rng(0)};
      const std::int64_t round = wire::Expect(task, "train").integer("round", 1, 1000);
      rebuilt[round].push_back(
          dynamic_cast<RoundClient&>(*twins[static_cast<std::size_t>(id)]).global(task, context));
      longest = std::max(longest, round - last[id]);
      last[id] = round;
    };
    const Played played = play(game);
    REQUIRE(played.error.empty());
    CHECK(longest > 5);
    for (std::int64_t round = 2; round <= 40; ++round) {
      for (const std::vector<float>& weights : rebuilt.at(round)) {
        CHECK(weights == played.weights[static_cast<std::size_t>(round) - 2]);
      }
    }
    // At most all sums, and as a rule fewer.
    const std::size_t width = half ? 2 : 4;
    for (const talk::Crossing& round : played.bytes) {
      CHECK(round.down.payload <= 2 * width * 40);
    }
    CHECK(played.bytes[2].down.payload < 2 * width * 40);
    CHECK(played.bytes[2].up.payload == 2 * 3 * (2 + width));
  }
}

TEST_CASE("fedkseed: the model stays in the span of its directions, and many of them suffice",
          "[methods][seeds][fedkseed]") {
  constexpr std::size_t kSize = 50;
  const test::Problem toy(2, kSize, unequal(2, kSize, 6), 0.005);
  test::Game few = toy.game("fedkseed", {{"candidates", 4}, {"probe", 0.1}});
  few.plan.rounds = 15;
  few.plan.train.steps = 5;
  CHECK(outside_span(play(few).last(), 4) < 1e-6);
  CHECK(outside_span(play(few).last(), 3) > 1e-2);

  Quadratic alike = unequal(1, 20, 7);
  const test::Problem convex(1, 20, alike, 0.02);
  test::Game many = convex.game("fedkseed", {{"candidates", 100}, {"probe", 0.1}});
  many.plan.rounds = 40;
  many.plan.train.steps = 25;
  const Played played = play(many);
  const std::vector<float> start(20);
  CHECK(alike(0, played.last(), {}) < 0.01 * alike(0, start, {}));
  // The other form of the upload says the same.
  test::choose(many.method, "upload", "sums");
  const Played sums = play(many);
  CHECK(sums.bytes[0].up.payload == 4 * 100);
  CHECK(worst(sums.last(), std::vector<double>(played.last().begin(), played.last().end())) < 1e-4);
}

TEST_CASE("fedkseed-pro: chances", "[methods][seeds][fedkseed]") {
  const test::Problem toy(3, 20, unequal(3, 20, 8), 0.01);
  for (const double ablate : {0.0, 1.0}) {
    test::Game game =
        toy.game("fedkseed", {{"candidates", 16}, {"probe", 0.1}, {"pro", 1}, {"ablate", ablate}});
    game.plan.rounds = 6;
    game.plan.train.steps = 10;
    std::vector<std::vector<float>> chances;
    game.spy = [&](PeerId id, const Message& task) {
      if (id != 0) return;
      chances.push_back(
          ScalarCode("float32").decode(bytes_in(task, "chances"), 16));
    };
    REQUIRE(play(game).error.empty());
    REQUIRE(chances.size() == 6);
    for (std::size_t round = 0; round < 6; ++round) {
      double sum = 0;
      for (const float chance : chances[round]) sum += chance;
      CHECK(sum == Approx(1).epsilon(1e-5));
      const auto [least, most] = std::ranges::minmax(chances[round]);
      CHECK(most / least <= std::exp(1.0) * 1.00001);
      // All alike while all histories are.
      if (round == 0 || ablate > 0) CHECK(most == least);
      if (round > 0 && ablate == 0) CHECK(most / least > 2.7);
    }
  }
}

TEST_CASE("a client that has lost everything says so, and is started anew", "[methods][seeds]") {
  for (const char* kind : {"fedkseed", "decomfl", "just_one_byte"}) {
    INFO(kind);
    const test::Problem toy(3, 12, unequal(3, 12, 9), 0.005);
    test::Game game = toy.game(kind, {{"probe", 0.1}});
    game.plan.rounds = 8;
    const Played first = play(game);
    game.first_round = 9;
    game.plan.rounds = 14;
    game.after = &first;
    game.forgetful = {1};
    const Played second = play(game);
    REQUIRE(second.error.empty());
    CHECK(second.reports[0].rejected == 1);
    for (std::size_t round = 1; round < second.reports.size(); ++round) {
      CHECK(second.reports[round].rejected == 0);
    }
    if (kind != std::string("fedkseed")) {
      // It has come to the same weights from the whole log as the others from its end.
      CHECK(second.clients[1] == second.clients[0]);
    }
  }
}

TEST_CASE("all replicas are the server's, bit for bit, whoever was away", "[methods][seeds]") {
  for (const char* kind : {"decomfl", "hiso", "just_one_byte"}) {
    for (const char* scalars : {"float32", "float16", "byte"}) {
      INFO(kind << ", " << scalars);
      const bool hiso = kind == std::string("hiso");
      const test::Problem toy(5, 16, unequal(5, 16, 10), hiso ? 1e-3 : 0.01);
      test::Game game = toy.game(hiso ? "decomfl" : kind, {{"probe", 0.1}});
      if (hiso) {
        game = toy.game("decomfl", {{"probe", 0.1}, {"precondition", 1}, {"directions", 3}});
      }
      test::choose(game.method, "scalars", scalars);
      game.plan.rounds = 100;
      game.plan.per_round = 2;
      game.plan.train.steps = 2;
      game.lost_sends = {20, 23, 50};
      const Played played = play(game);
      REQUIRE(played.error.empty());
      for (const Message& client : played.clients) {
        const wire::Expect state(client, "state");
        const auto round = static_cast<std::size_t>(state.integer("round", 1, 99));
        const auto own = state.f32("weights", {16});
        CHECK(std::ranges::equal(own, played.weights[round - 1]));
      }
      CHECK(math::norm(played.last()) > 0.1);
    }
  }
}

TEST_CASE("decomfl: with one client and one step it is MeZO", "[methods][seeds][decomfl]") {
  constexpr std::size_t kSize = 20, kWidth = 4;
  const Quadratic problem = unequal(1, kSize, 11);
  const test::Problem toy(1, kSize, problem, 0.01);
  test::Game game = toy.game("decomfl", {{"probe", 0.1}, {"directions", kWidth}});
  test::choose(game.method, "form", "central");
  game.plan.rounds = 30;
  const Played played = play(game);
  std::vector<double> w(kSize);
  for (std::int64_t round = 1; round <= 30; ++round) {
    const std::vector<double> before = w;
    for (std::int64_t p = 0; p < std::int64_t{kWidth}; ++p) {
      const auto z = direction(kCommon.stream("direction", round, 0, p).key(), kSize);
      const double g = slope_of(problem, 0, before, z);
      for (std::size_t j = 0; j < kSize; ++j) w[j] -= 0.01 / kWidth * g * z[j];
    }
  }
  CHECK(worst(played.last(), w) < 1e-4);
  for (const talk::Crossing& round : played.bytes) CHECK(round.up.payload == 4 * kWidth);
  CHECK(played.bytes[0].down.payload == 0);
  for (std::size_t round = 1; round < 30; ++round) {
    CHECK(played.bytes[round].down.payload == 4 * kWidth);
  }
  // HiSo whose curvature stays 1.
  test::Game frozen = toy.game(
      "decomfl", {{"probe", 0.1}, {"directions", kWidth}, {"precondition", 1}, {"ablate", 1}});
  test::choose(frozen.method, "form", "central");
  frozen.plan.rounds = 30;
  CHECK(play(frozen).weights == played.weights);
}

TEST_CASE("decomfl: the step of the mean slopes is the mean of the clients' steps",
          "[methods][seeds][decomfl]") {
  constexpr std::size_t kClients = 4, kSize = 15, kSteps = 5;
  const Quadratic problem = unequal(kClients, kSize, 12);
  const test::Problem toy(kClients, kSize, problem, 0.02);
  test::Game game = toy.game("decomfl", {{"probe", 0.1}});
  test::choose(game.method, "form", "central");
  game.plan.rounds = 1;
  game.plan.train.steps = kSteps;
  std::vector<double> mean(kSize);
  for (std::size_t i = 0; i < kClients; ++i) {
    std::vector<double> w(kSize);
    for (std::int64_t k = 0; k < std::int64_t{kSteps}; ++k) {
      const auto z = direction(kCommon.stream("direction", 1, k, 0).key(), kSize);
      const double g = slope_of(problem, i, w, z);
      for (std::size_t j = 0; j < kSize; ++j) w[j] -= 0.02 * g * z[j];
    }
    for (std::size_t j = 0; j < kSize; ++j) mean[j] += w[j] / kClients;
  }
  CHECK(worst(play(game).last(), mean) < 1e-5);
}

TEST_CASE("just_one_byte: bytes, and noise that falls with the number of slopes",
          "[methods][seeds][just_one_byte]") {
  constexpr std::size_t kSize = 10;
  const Quadratic problem = unequal(1, kSize, 13);
  const auto moved = [&](std::int64_t clients, std::int64_t steps, std::size_t& up) {
    // Clients alike, one step from 0: mean and spread over many starts are those of many rounds of
    // a step too small to move.
    Quadratic same = problem;
    same.optimum.assign(static_cast<std::size_t>(clients), problem.optimum[0]);
    const test::Problem toy(clients, kSize, same, 1e-6);
    test::Game game = toy.game("just_one_byte", {{"probe", 0.1}});
    test::choose(game.method, "scalars", "float32");
    game.plan.rounds = 400;
    game.plan.train.steps = steps;
    const Played played = play(game);
    up = played.bytes[5].up.payload;
    double mean = 0;
    for (std::size_t r = 1; r < 400; ++r) {
      double square = 0;
      for (std::size_t j = 0; j < kSize; ++j) {
        const double step = double{played.weights[r][j]} - played.weights[r - 1][j];
        const double pull = 1e-6 * problem.curvature[j] * problem.optimum[0][j];
        square += std::pow((step - pull) / 1e-6, 2);
      }
      mean += square / 399;
    }
    return mean;
  };
  std::size_t up = 0;
  const double one = moved(1, 1, up);
  CHECK(up == 4);
  const double many = moved(4, 6, up);
  CHECK(up == 4 * 6 * 4);
  CHECK(one / many == Approx(24).epsilon(0.15));

  const test::Problem toy(3, kSize, unequal(3, kSize, 14), 0.01);
  test::Game game = toy.game("just_one_byte", {{"probe", 0.1}});
  game.plan.rounds = 20;
  game.plan.train.steps = 7;
  const Played played = play(game);
  CHECK(played.bytes[9].up.payload == 3 * 7);
  CHECK(played.bytes[9].down.payload == 3 * (1 + 3 * (2 + 7)));
}

TEST_CASE("hiso: a curvature of slopes is no curvature, a true one is worth ten times",
          "[methods][seeds][decomfl]") {
  constexpr std::size_t kSize = 40;
  Quadratic problem;
  for (std::size_t j = 0; j < kSize; ++j) {
    problem.curvature.push_back(std::pow(1000.0, static_cast<double>(j) / (kSize - 1)));
  }
  problem.optimum.assign(1, std::vector<double>(kSize));
  // Where every coordinate has as much of the loss; the sheet does not say where its toy starts.
  std::vector<float> start;
  for (const double c : problem.curvature) start.push_back(static_cast<float>(1 / std::sqrt(c)));
  const double target = 0.1 * problem(0, start, {});
  // Rounds to a tenth of the loss, at the best rate.
  const auto best = [&](const auto& rounds_at) {
    std::size_t least = 5000;
    double best_rate = 0;
    for (double rate = 1e-4; rate < 2; rate *= 1.5) {
      double mean = 0;
      for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        mean += static_cast<double>(rounds_at(rate, seed)) / 5;
      }
      if (static_cast<std::size_t>(mean) < least) {
        least = static_cast<std::size_t>(mean);
        best_rate = rate;
      }
    }
    UNSCOPED_INFO("rate " << best_rate);
    return least;
  };
  const auto played = [&](double precondition) {
    return best([&](double rate, std::uint64_t seed) {
      const test::Problem toy(1, kSize, problem, rate);
      test::Game game =
          toy.game("decomfl", {{"probe", 1e-3}, {"directions", 5}, {"precondition", precondition}});
      test::choose(game.method, "form", "central");
      game.seed = seed;
      game.plan.initial = start;
      game.plan.rounds = 800;
      const Played run = play(game);
      for (std::size_t round = 0; round < run.weights.size(); ++round) {
        if (problem(0, run.weights[round], {}) < target) return round + 1;
      }
      return std::size_t{5000};
    });
  };
  const std::vector<float> curvature(problem.curvature.begin(), problem.curvature.end());
  const std::size_t oracle = best([&](double rate, std::uint64_t seed) {
    const Directions directions(kSize);
    std::vector<float> w = start;
    for (std::size_t round = 0; round < 800; ++round) {
      const std::vector<float> before = w;
      for (std::uint64_t p = 0; p < 5; ++p) {
        const std::uint64_t key = Rng(seed).stream("oracle", round, p).key();
        std::vector<float> z(kSize);
        directions.add(key, 1, z, curvature);
        double slope = 0;
        for (std::size_t j = 0; j < kSize; ++j) slope += z[j] * curvature[j] * before[j];
        directions.add(key, -rate / 5 * slope, w, curvature);
      }
      if (problem(0, w, {}) < target) return round + 1;
    }
    return std::size_t{5000};
  });
  const std::size_t plain = played(0), hiso = played(1);
  WARN("rounds to a tenth of the loss: decomfl " << plain << ", hiso " << hiso << ", oracle "
                                                 << oracle);
  CHECK(5 * oracle <= std::min(plain, hiso));
  CHECK(std::abs(double(oracle) - 21) <= 0.25 * 21);
  CHECK(std::abs(double(hiso) - 274) <= 0.25 * 274);
}

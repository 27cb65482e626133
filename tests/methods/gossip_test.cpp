// dpsgd, dadao: the graph, the exchanges between neighbours, the algebra.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/dadao.hpp"
#include "methods/detail/graph.hpp"
#include "support/play.hpp"

namespace fedctl {
namespace {

using methods::DadaoConstants;
using methods::DadaoState;
using methods::Graph;
using methods::Message;
using methods::PeerId;

// f_i(w) = |w - (i, -i, ...)|^2 / 2; the optimum is the mean of the centres.
double own_centre(PeerId id, std::span<const float> w, std::span<float> slope) {
  double loss = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double away = double{w[i]} - (i % 2 == 0 ? 1 : -1) * static_cast<double>(id);
    loss += away * away / 2;
    if (!slope.empty()) slope[i] = static_cast<float>(away);
  }
  return loss;
}

std::vector<float> local_of(const test::Played& played, std::size_t client) {
  const auto values = played.clients[client].tensors.at("local").f32();
  return {values.begin(), values.end()};
}

// Quadratics of 5 numbers whose curvatures lie between mu = 1 and L, on both ends; unlike clients.
struct Quadratics {
  explicit Quadratics(double smoothness) : curvature(kClients), centre(kClients) {
    Rng rng(7);
    for (std::size_t id = 0; id < kClients; ++id) {
      for (std::size_t i = 0; i < kSize; ++i) {
        const double place = rng.uniform_double();
        curvature[id].push_back(i == 0 ? 1 : i == 1 ? smoothness : std::pow(smoothness, place));
        centre[id].push_back(rng.normal());
      }
    }
  }
  double operator()(PeerId id, std::span<const float> w, std::span<float> slope) const {
    const auto n = static_cast<std::size_t>(id);
    double loss = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      const double away = double{w[i]} - centre[n][i];
      loss += curvature[n][i] * away * away / 2;
      if (!slope.empty()) slope[i] = static_cast<float>(curvature[n][i] * away);
    }
    return loss;
  }
  std::vector<double> optimum() const {
    std::vector<double> best(kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      double sum = 0, all = 0;
      for (std::size_t id = 0; id < kClients; ++id) {
        sum += curvature[id][i] * centre[id][i];
        all += curvature[id][i];
      }
      best[i] = sum / all;
    }
    return best;
  }
  static constexpr std::size_t kClients = 10, kSize = 5;
  std::vector<std::vector<double>> curvature, centre;
};

std::vector<double> vector_of(const Message& state, int k) {
  const auto values = state.tensors.at("vector." + std::to_string(k)).f64();
  return {values.begin(), values.end()};
}

// Squared distance of all models to the optimum.
double distance(const test::Played& played, const std::vector<double>& best) {
  double sum = 0;
  for (const Message& client : played.clients) {
    const std::vector<double> x = vector_of(client, 0);
    for (std::size_t i = 0; i < best.size(); ++i) sum += (x[i] - best[i]) * (x[i] - best[i]);
  }
  return sum;
}

}  // namespace

TEST_CASE("graphs are connected and their weights doubly stochastic", "[gossip]") {
  const std::string kind = GENERATE("ring", "complete", "star", "grid");
  for (const std::int64_t n : {2, 3, 5, 9, 12}) {
    const Graph graph(kind, n);
    std::vector<PeerId> reached = {0};
    for (std::size_t at = 0; at < reached.size(); ++at) {
      for (const PeerId next : graph.neighbours(reached[at])) {
        REQUIRE(next != reached[at]);
        if (std::ranges::find(reached, next) == reached.end()) reached.push_back(next);
      }
    }
    CHECK(static_cast<std::int64_t>(reached.size()) == n);
    for (PeerId a = 0; a < n; ++a) {
      double sum = 0;
      for (const PeerId b : graph.neighbours(a)) {
        CHECK(graph.weight(a, b) == graph.weight(b, a));
        sum += graph.weight(a, b);
      }
      CHECK(sum < 1);
    }
  }
}

TEST_CASE("dadao's constants of the sheet's graphs", "[gossip]") {
  const std::int64_t n = 10;
  const auto near = [](double a, double b) { return std::abs(a - b) < 1e-9 * b; };
  const auto complete = Graph("complete", n).constants();
  CHECK(near(complete.chi1, 4.5));
  CHECK(near(complete.chi2, 4.5));
  const auto star = Graph("star", n).constants();
  CHECK(near(star.chi1, 9));
  CHECK(near(star.chi2, 4.5));
  const auto cycle = Graph("ring", n).constants();
  CHECK(near(cycle.chi1, 10 / (2 * (1 - std::cos(2 * M_PI / 10)))));
  CHECK(near(cycle.chi2, 4.5));
}

TEST_CASE("dpsgd: the models' recursion, and the mean is gradient descent", "[gossip]") {
  constexpr std::int64_t kClients = 5;
  constexpr std::size_t kSize = 3;
  const double lr = 0.05;
  test::Problem problem(kClients, kSize, own_centre, lr);
  test::Game game = problem.game("dpsgd");
  game.plan.rounds = 12;
  const test::Played played = test::play(game);
  REQUIRE(played.error.empty());
  const Graph ring("ring", kClients);
  std::vector<std::vector<float>> x(kClients, std::vector<float>(kSize));
  for (int round = 0; round < 12; ++round) {
    const auto before = x;
    for (PeerId id = 0; id < kClients; ++id) {
      auto& own = x[static_cast<std::size_t>(id)];
      std::vector<float> slope(kSize);
      own_centre(id, own, slope);
      for (std::size_t i = 0; i < kSize; ++i) own[i] -= static_cast<float>(lr) * slope[i];
      for (const PeerId other : ring.neighbours(id)) {
        const auto w = static_cast<float>(ring.weight(id, other));
        for (std::size_t i = 0; i < kSize; ++i) {
          own[i] += w * (before[static_cast<std::size_t>(other)][i] -
                         before[static_cast<std::size_t>(id)][i]);
        }
      }
    }
  }
  for (std::size_t id = 0; id < kClients; ++id) CHECK(local_of(played, id) == x[id]);
  // The mean takes steps of its own, whatever the graph.
  const double expected = 2 * (1 - std::pow(1 - lr, 12));
  CHECK(std::abs(played.last()[0] - expected) < 1e-5);
}

TEST_CASE("dpsgd: bytes, and who is watched", "[gossip]") {
  constexpr std::size_t kSize = 100;
  test::Problem problem(6, kSize, own_centre);
  test::Game game = problem.game("dpsgd", {{"watch", 3}, {"exchanges", 2}});
  game.plan.rounds = 4;
  const test::Played played = test::play(game);
  REQUIRE(played.error.empty());
  for (std::size_t round = 0; round < 4; ++round) {
    const bool watched = round == 2 || round == 3;
    CHECK(played.bytes[round].up.payload == (watched ? 6 * 4 * kSize : 0));
    CHECK(played.bytes[round].down.payload == 0);
    REQUIRE(played.reports[round].peers);
    CHECK(played.reports[round].peers->payload == 6 * 2 * 2 * 4 * kSize);
    CHECK(played.reports[round].peers->framing > 0);
  }
  CHECK(played.weights[0] == played.weights[1]);
  CHECK(played.weights[1] != played.weights[2]);
}

TEST_CASE("gossip: a client lost at any send hangs nobody", "[gossip]") {
  test::Problem problem(5, 4, own_centre, 0.1);
  const std::string method = GENERATE("dpsgd", "dadao");
  const std::size_t lost = GENERATE(range(std::size_t{0}, std::size_t{40}));
  test::Game game = problem.game(method);
  game.plan.rounds = 30;
  game.lost_sends = {lost};
  const test::Played played = test::play(game);
  REQUIRE(played.error.empty());
  CHECK(played.reports.size() == 30);
  // dadao's duals keep what was applied at one end alone.
  CHECK(std::abs(played.last()[0] - 2) < (method == "dadao" ? 1.0 : 0.3));
  CHECK(test::play(game).last() == played.last());
}

TEST_CASE("gossip: codecs between neighbours leave the mean where it was", "[gossip]") {
  test::Problem problem(5, 64, own_centre, 0.05);
  test::Game game = problem.game("dpsgd");
  game.plan.rounds = 20;
  const test::Played exact = test::play(game);
  game.up = {config::make_plugin(codec::codec_kinds(), "quantize", {{"bits", 4}})};
  game.plan.train.steps = 1;
  const test::Played coded = test::play(game);
  REQUIRE(coded.error.empty());
  CHECK(coded.reports[5].peers->payload < exact.reports[5].peers->payload / 6);
  std::vector<double> mean(64), mean_coded(64);
  for (std::size_t id = 0; id < 5; ++id) {
    for (std::size_t i = 0; i < 64; ++i) {
      mean[i] += local_of(exact, id)[i] / 5.0;
      mean_coded[i] += local_of(coded, id)[i] / 5.0;
    }
  }
  for (std::size_t i = 0; i < 64; ++i) CHECK(std::abs(mean[i] - mean_coded[i]) < 1e-4);
}

TEST_CASE("gossip: threads and a stop in between change nothing", "[gossip]") {
  test::Problem problem(6, 8, own_centre, 0.05);
  test::Game game = problem.game("dpsgd");
  game.plan.rounds = 8;
  const test::Played whole = test::play(game);
  game.threads = 4;
  CHECK(test::play(game).last() == whole.last());
  game.stop_after = 3;
  const test::Played first = test::play(game);
  game.stop_after = -1;
  game.after = &first;
  game.first_round = 4;
  CHECK(test::play(game).last() == whole.last());
  // One that has lost its model gets the mean in the round behind the next.
  game.forgetful = {2};
  const test::Played without = test::play(game);
  REQUIRE(without.error.empty());
  CHECK(without.reports[0].rejected == 1);
  CHECK(without.reports[1].rejected == 0);
  CHECK(without.last() != whole.last());
}

TEST_CASE("dadao: the drift", "[gossip][dadao]") {
  const DadaoConstants c(10, 1, 3);
  for (const double time : {1e-6, 0.3, 4.0, 100.0}) {
    DadaoState whole;
    Rng rng(3);
    for (auto& vector : whole.vectors) vector = {rng.normal(), rng.normal()};
    DadaoState halves = whole;
    const DadaoState before = whole;
    whole.drift(c, time);
    halves.drift(c, time / 2);
    halves.drift(c, time / 2);
    const auto& [x, x_, y, y_, z, z_] = whole.vectors;
    const auto& [x0, x0_, y0, y0_, z0, z0_] = before.vectors;
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(x[i] + x_[i] == Approx(x0[i] + x0_[i]).margin(1e-11));
      CHECK(x[i] - x_[i] == Approx((x0[i] - x0_[i]) * std::exp(-2 * c.eta * time)).margin(1e-11));
      CHECK(c.alpha_tilde * z[i] + c.alpha * z_[i] ==
            Approx(c.alpha_tilde * z0[i] + c.alpha * z0_[i]).margin(1e-11));
      CHECK(z[i] - z_[i] ==
            Approx((z0[i] - z0_[i]) * std::exp(-(c.alpha + c.alpha_tilde) * time)).margin(1e-11));
      for (std::size_t k = 0; k < 6; ++k) {
        CHECK(whole.vectors[k][i] == Approx(halves.vectors[k][i]).margin(1e-9));
      }
    }
  }
}

TEST_CASE("dadao: the consensus duals sum to zero at every boundary", "[gossip][dadao]") {
  const Quadratics problem(10);
  const test::Problem owner(Quadratics::kClients, Quadratics::kSize, problem);
  test::Game game = owner.game("dadao", {{"smoothness", 10}, {"convexity", 1}, {"time", 7}});
  game.plan.rounds = 5;
  for (std::int64_t stop = 1; stop <= 5; ++stop) {
    game.stop_after = stop;
    const test::Played played = test::play(game);
    REQUIRE(played.error.empty());
    for (const int k : {4, 5}) {
      for (std::size_t i = 0; i < Quadratics::kSize; ++i) {
        double sum = 0, size = 0;
        for (const Message& client : played.clients) {
          sum += vector_of(client, k)[i];
          size += std::abs(vector_of(client, k)[i]);
        }
        CHECK(size > 0);
        CHECK(std::abs(sum) < 1e-9);
      }
    }
  }
}

TEST_CASE("dadao: the fixed point", "[gossip][dadao]") {
  const Quadratics problem(10);
  const DadaoConstants c(10, 1, 3);
  const std::vector<double> best = problem.optimum();
  const std::vector<float> at(best.begin(), best.end());
  std::vector<std::vector<float>> values;
  for (PeerId id = 0; id < 10; ++id) {
    std::vector<float> slope(Quadratics::kSize);
    problem(id, at, slope);
    DadaoState state;
    state.vectors[0] = state.vectors[1] = {at.begin(), at.end()};
    for (std::size_t i = 0; i < Quadratics::kSize; ++i) {
      const double y = slope[i] - c.nu * at[i];
      state.vectors[2].push_back(y);
      state.vectors[3].push_back(y);
      state.vectors[4].push_back(-c.nu * at[i] - y);
      state.vectors[5].push_back(-c.nu * at[i] - y);
    }
    const DadaoState before = state;
    state.drift(c, 2.5);
    state.gradient_event(c, slope);
    for (std::size_t k = 0; k < 6; ++k) {
      for (std::size_t i = 0; i < Quadratics::kSize; ++i) {
        CHECK(state.vectors[k][i] == Approx(before.vectors[k][i]).margin(1e-12));
      }
    }
    values.push_back(state.value());
  }
  for (const auto& value : values) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      CHECK(value[i] == Approx(values[0][i]).margin(1e-6));
    }
  }
}

TEST_CASE("dadao: the sheet's table of gradients and exchanges", "[gossip][dadao]") {
  struct Row {
    const char* graph;
    double smoothness, time, gradients, exchanges;
  };
  // Time, gradients and exchanges until the squared distance is 1e-6 of the first.
  static const Row kRows[] = {{"complete", 10, 289, 2807, 1814}, {"complete", 100, 883, 8869, 5706},
                              {"ring", 10, 258, 2550, 3853},     {"ring", 100, 847, 8481, 12869},
                              {"star", 10, 289, 2846, 2582},     {"star", 100, 931, 9472, 8506}};
  for (const Row& row : kRows) {
    const Quadratics problem(row.smoothness);
    const test::Problem owner(Quadratics::kClients, Quadratics::kSize, problem);
    const double step = row.smoothness;  // time of a round
    test::Game game =
        owner.game("dadao", {{"smoothness", row.smoothness}, {"convexity", 1}, {"time", step}});
    test::choose(game.method, "graph", row.graph);
    game.plan.rounds = 1'000'000;
    const std::vector<double> best = problem.optimum();
    double first = 0;
    for (const double w : best) first += w * w;
    first *= 10;
    double gradients = 0, exchanges = 0, time = 0;
    game.overhear = [&gradients](PeerId, const Message& answer) {
      gradients += static_cast<double>(std::get<std::int64_t>(answer.scalars.at("steps")));
    };
    std::optional<test::Played> before;
    for (std::int64_t round = 1; round < 400; ++round) {
      game.first_round = game.stop_after = round;
      if (before) game.after = &*before;
      test::Played played = test::play(game);
      REQUIRE(played.error.empty());
      before = std::move(played);
      time += step;
      const methods::RoundReport& report = before->reports[0];
      exchanges += static_cast<double>(report.peers->payload) / (2 * 4 * Quadratics::kSize);
      if (distance(*before, best) < 1e-6 * first) break;
    }
    WARN(row.graph << ' ' << row.smoothness << ": " << time << ", " << gradients << ", "
                   << exchanges);
    CHECK(gradients == Approx(row.gradients).epsilon(0.15));
    // exponent / (sqrt(mu / L) / (8 sqrt 2)) >= 1
    CHECK(std::log(1e6) / time >= 1 / std::sqrt(row.smoothness) / (8 * std::sqrt(2.0)));
  }
}

TEST_CASE("dadao: too few exchanges are refused", "[gossip][dadao]") {
  const test::Problem owner(10, 4, own_centre);
  test::Game game = owner.game("dadao", {{"rate", 9}});
  test::choose(game.method, "graph", "star");
  CHECK_NOTHROW(test::play(game));
  game = owner.game("dadao", {{"rate", 4.5}});
  test::choose(game.method, "graph", "star");
  CHECK_THROWS_AS(test::play(game), ConfigError);
}

}  // namespace fedctl

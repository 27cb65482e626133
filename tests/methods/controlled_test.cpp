// SCAFFOLD, SCALLION and SCAFCOM on the sheet's problem: 10 quadratics of different curvature and
// optimum, d = 40, 4 of 10 clients a round, 5 exact gradient steps of rate 0.01; through the mesh
// and the codecs.
#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;

namespace {

constexpr std::int64_t kClients = 10;
constexpr std::size_t kSize = 40;
constexpr double kRate = 0.01;

struct Curves {
  std::vector<std::vector<float>> curvature, optimum;
  Curves() {
    Rng rng(11);
    for (std::int64_t client = 0; client < kClients; ++client) {
      curvature.emplace_back();
      optimum.emplace_back();
      for (std::size_t i = 0; i < kSize; ++i) {
        curvature.back().push_back(static_cast<float>(rng.uniform(0.5, 5)));
        optimum.back().push_back(static_cast<float>(5 * rng.normal()));
      }
    }
  }
  double distance(std::span<const float> x) const {
    double squares = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
      double top = 0, bottom = 0;
      for (std::size_t c = 0; c < kClients; ++c) {
        top += double{curvature[c][i]} * optimum[c][i];
        bottom += curvature[c][i];
      }
      squares += std::pow(x[i] - top / bottom, 2);
    }
    return std::sqrt(squares);
  }
};
const Curves kProblem;

double objective(PeerId id, std::span<const float> w, std::span<float> slope) {
  const auto client = static_cast<std::size_t>(id);
  double loss = 0;
  for (std::size_t i = 0; i < kSize; ++i) {
    const float away = w[i] - kProblem.optimum[client][i];
    const float own = kProblem.curvature[client][i] * away;
    if (!slope.empty()) slope[i] = own;
    loss += 0.5 * own * away;
  }
  return loss;
}

struct Setting {
  std::string method = "scaffold";
  std::map<std::string, double> options = {};
  std::vector<config::Plugin> up = {};
  std::int64_t rounds = 50, per_round = 4, steps = 5;
  std::set<std::size_t> lost_sends = {};  // of all clients' answers, by number
};
using Outcome = test::Played;

Outcome play(const Setting& setting, const Outcome* start = nullptr,
             std::set<PeerId> forgetful = {}) {
  const test::Problem problem(kClients, kSize, objective, kRate);
  test::Game game = problem.game(setting.method, setting.options);
  game.plan.rounds = setting.rounds;
  game.plan.per_round = setting.per_round;
  game.plan.train.steps = setting.steps;
  game.up = setting.up;
  game.lost_sends = setting.lost_sends;
  game.after = start;
  game.forgetful = std::move(forgetful);
  return test::play(game);
}

config::Plugin codec_of(const char* kind, std::map<std::string, double> numbers) {
  return config::make_plugin(codec::codec_kinds(), kind, numbers);
}

// SCAFFOLD as its paper has it, with two vectors up, in double; the same cohorts.
std::vector<std::vector<double>> two_vector_scaffold(const Setting& setting) {
  JobPlan plan;
  plan.clients = kClients;
  std::vector<PeerId> all(kClients);
  for (PeerId id = 0; id < kClients; ++id) all[static_cast<std::size_t>(id)] = id;
  std::vector<double> x(kSize), c(kSize);
  std::vector<std::vector<double>> own(kClients, std::vector<double>(kSize)), sequence;
  for (std::int64_t round = 1; round <= setting.rounds; ++round) {
    const auto cohort = sample_cohort(plan, setting.per_round,
                                      Rng(1).stream("server").stream("sampling", round), all);
    std::vector<double> moved(kSize), changed(kSize);
    for (const PeerId id : cohort) {
      const auto k = static_cast<std::size_t>(id);
      for (std::size_t i = 0; i < kSize; ++i) {
        double y = x[i];
        for (std::int64_t step = 0; step < setting.steps; ++step) {
          const double slope = kProblem.curvature[k][i] * (y - kProblem.optimum[k][i]);
          y -= kRate * (slope - own[k][i] + c[i]);
        }
        const double next =
            own[k][i] - c[i] + (x[i] - y) / (kRate * static_cast<double>(setting.steps));
        moved[i] += (y - x[i]) / static_cast<double>(cohort.size());
        changed[i] += (next - own[k][i]) / kClients;
        own[k][i] = next;
      }
    }
    for (std::size_t i = 0; i < kSize; ++i) {
      x[i] += moved[i];
      c[i] += changed[i];
    }
    sequence.push_back(x);
  }
  return sequence;
}

double difference(std::span<const float> a, std::span<const double> b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// |c - mean of c_i| over the mean of |c_i|; c itself vanishes at the optimum.
double imbalance(const Outcome& outcome) {
  const auto c = outcome.server.tensors.at("control").f32();
  std::vector<double> mean(kSize);
  double norms = 0;
  for (const Message& client : outcome.clients) {
    const auto own = client.tensors.at("control").f32();
    norms += math::norm(own) / kClients;
    for (std::size_t i = 0; i < kSize; ++i) mean[i] += double{own[i]} / kClients;
  }
  double away = 0;
  for (std::size_t i = 0; i < kSize; ++i) away += std::pow(c[i] - mean[i], 2);
  return std::sqrt(away) / norms;
}

}  // namespace

TEST_CASE("the one-vector form gives SCAFFOLD's iterates", "[methods][controlled]") {
  const Setting setting{.rounds = 60};
  const auto reference = two_vector_scaffold(setting);
  const Outcome scaffold = play(setting);
  for (std::size_t round = 0; round < 60; ++round) {
    CHECK(difference(scaffold.weights[round], reference[round]) < 2e-5);
  }
  const Outcome scallion = play({.method = "scallion", .options = {{"scaling", 1}}, .rounds = 60});
  CHECK(scallion.weights == scaffold.weights);
  const Outcome scafcom = play({.method = "scafcom", .options = {{"momentum", 1}}, .rounds = 60});
  for (std::size_t round = 0; round < 60; ++round) {
    CHECK(difference(scafcom.weights[round], reference[round]) < 2e-5);
  }
  // Two vectors of 4 d bytes down, one up.
  CHECK(scaffold.all_bytes().up.payload == 60 * 4 * 4 * kSize);
  CHECK(scaffold.all_bytes().down.payload == 60 * 4 * 8 * kSize);
}

TEST_CASE("with one step of all clients it is gradient descent", "[methods][controlled]") {
  const Outcome outcome = play({.rounds = 40, .per_round = kClients, .steps = 1});
  std::vector<double> x(kSize);
  for (std::size_t round = 0; round < 40; ++round) {
    for (std::size_t i = 0; i < kSize; ++i) {
      double slope = 0;
      for (std::size_t c = 0; c < kClients; ++c) {
        slope += kProblem.curvature[c][i] * (x[i] - kProblem.optimum[c][i]) / kClients;
      }
      x[i] -= kRate * slope;
    }
    CHECK(difference(outcome.weights[round], x) < 2e-5);
  }
}

TEST_CASE("unequal clients: FedAvg stalls, the controlled methods do not",
          "[methods][controlled]") {
  const auto end = [](const char* method, std::map<std::string, double> options,
                      std::vector<config::Plugin> up, std::int64_t rounds) {
    const Outcome outcome = play(
        {.method = method, .options = std::move(options), .up = std::move(up), .rounds = rounds});
    const double distance = (outcome.error.empty() ? kProblem.distance(outcome.last()) : INFINITY);
    if (outcome.error.empty() && std::string(method) != "fedavg") CHECK(imbalance(outcome) < 1e-5);
    return distance;
  };
  const auto randk = [] { return std::vector{codec_of("randk", {{"ratio", 0.1}})}; };
  const auto topk = [] { return std::vector{codec_of("topk", {{"ratio", 0.1}})}; };
  const double fedavg = end("fedavg", {}, {}, 4000);
  const double scaffold = end("scaffold", {}, {}, 4000);
  const double scallion_10 = end("scallion", {{"scaling", 0.1}}, randk(), 4000);
  const double scallion_5 = end("scallion", {{"scaling", 0.05}}, randk(), 8000);
  const double scallion_1 = end("scallion", {{"scaling", 1}}, randk(), 1000);
  const double eden = end("scallion", {{"scaling", 0.6}}, {codec_of("eden", {{"bits", 1}})}, 4000);
  const double scafcom_1 = end("scafcom", {{"momentum", 1}}, topk(), 4000);
  const double scafcom_2 = end("scafcom", {{"momentum", 0.2}}, topk(), 4000);
  const double scafcom_3 = end("scafcom", {{"momentum", 0.1}}, topk(), 8000);
  WARN("distance to the optimum: fedavg "
       << fedavg << ", scaffold " << scaffold << ", scallion rand-4/40 a=0.1 " << scallion_10
       << ", a=0.05 " << scallion_5 << ", a=1 " << scallion_1 << ", eden 1 bit a=0.6 " << eden
       << ", scafcom top-4/40 b=1 " << scafcom_1 << ", b=0.2 " << scafcom_2 << ", b=0.1 "
       << scafcom_3);
  CHECK(fedavg > 0.3);
  // Where float32 ends.
  for (const double distance :
       {scaffold, scallion_10, scallion_5, eden, scafcom_1, scafcom_2, scafcom_3}) {
    CHECK(distance < 1e-4);
  }
  CHECK(scallion_1 > 1e3);  // beyond 2 / (1 + omega): diverges
}

TEST_CASE("an answer that got lost is taken out of the control variate", "[methods][controlled]") {
  for (const std::size_t lost : {3U, 17U, 18U}) {
    Setting setting{.method = "scafcom", .up = {codec_of("topk", {{"ratio", 0.2}})}, .rounds = 60};
    setting.lost_sends = {lost};
    const Outcome outcome = play(setting);
    CHECK(outcome.error.empty());
    std::int64_t gone = 0;
    for (const RoundReport& report : outcome.reports) gone += report.lost;
    CHECK(gone == 1);
    CHECK(imbalance(outcome) < 1e-5);
  }
}

TEST_CASE("a client that has lost its control variate is rejected", "[methods][controlled]") {
  const Setting setting{.rounds = 6, .per_round = kClients};
  const Outcome first = play(setting);
  const Outcome whole = play(setting, &first);
  CHECK(whole.reports[0].rejected == 0);
  const Outcome outcome = play(setting, &first, {3});
  for (const RoundReport& report : outcome.reports) CHECK(report.rejected == 1);
}

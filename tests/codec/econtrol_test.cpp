// The reference simulations A and B of EControl (Gao, Islamov, Stich, arXiv 2311.05645), with our
// codecs. The figures in the tables are the reference's.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "codec/chains.hpp"
#include "codec/difference.hpp"
#include "support/quadratics.hpp"

using namespace fedctl;
using codec::Difference;

namespace {

constexpr std::size_t kCount = test::Quadratics::kCount;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

struct Simulation {
  std::size_t clients, kept;
  double spread;     // standard deviation of the optima
  double noise = 0;  // of a gradient's coordinate
  double rate = 0.001;
  int steps;
  bool average =
      false;  // of the squared distance over the second half, else the distance at the end
};

enum class Feedback { dense, ef14, difference };

double run(const Simulation& simulation, Feedback feedback, double eta = 0) {
  Rng rng(7);
  const test::Quadratics problem(simulation.clients, simulation.spread, rng);
  std::vector<double> x(kCount);

  const double ratio = static_cast<double>(simulation.kept) / kCount;
  const test::Chain top{"", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", ratio}})}};
  std::vector<std::unique_ptr<codec::Codec>> senders, receivers;
  for (std::size_t c = 0; c < simulation.clients; ++c) {
    if (feedback == Feedback::difference) {
      senders.push_back(std::make_unique<Difference>(top.make({kCount}), kCount, eta));
      receivers.push_back(std::make_unique<Difference>(top.make({kCount}), kCount, eta));
    } else {
      senders.push_back(test::Chain{"", top.stages, "ef14"}.make({kCount}));
      receivers.push_back(top.make({kCount}));
    }
  }
  // The residual of ef14 is in units of the model, the difference in those of the gradient.
  const double before = feedback == Feedback::ef14 ? simulation.rate : 1;
  const double behind = simulation.rate / before / static_cast<double>(simulation.clients);
  double squared = 0, mean = 0;
  for (int step = 0; step < simulation.steps; ++step) {
    std::vector<double> sum(kCount);
    for (std::size_t c = 0; c < simulation.clients; ++c) {
      std::vector<float> gradient(kCount), decoded(kCount);
      for (std::size_t i = 0; i < kCount; ++i) {
        const double noise = simulation.noise > 0 ? simulation.noise * rng.normal() : 0;
        gradient[i] = static_cast<float>(before * (problem.slope(c, i, x[i]) + noise));
      }
      if (feedback == Feedback::dense) {
        decoded = gradient;
      } else {
        senders[c]->synchronise(receivers[c]->stamp());
        const Bytes bytes = senders[c]->encode(gradient, rng);
        receivers[c]->decode(bytes, decoded);
        receivers[c]->received(bytes, decoded);
      }
      for (std::size_t i = 0; i < kCount; ++i) sum[i] += decoded[i];
    }
    for (std::size_t i = 0; i < kCount; ++i) x[i] -= behind * sum[i];
    squared = problem.squared_distance(x);
    if (!(squared < 1e9)) return kInfinite;
    if (2 * step >= simulation.steps) mean += 2 * squared / simulation.steps;
  }
  return simulation.average ? mean : std::sqrt(squared);
}

void check_within_factor_2(double measured, double reference) {
  CHECK(measured > reference / 2);
  CHECK(measured < reference * 2);
}

}  // namespace

TEST_CASE(
    "EControl's simulation A: a residual's floor grows with the step, the difference has none",
    "[codec][econtrol]") {
  const auto simulation = [](double rate, int steps) {
    return Simulation{.clients = 5, .kept = 1, .spread = 14, .rate = rate, .steps = steps};
  };
  struct Row {
    double rate, ef14;
    int steps;  // until the slowest coordinate has come to rest
  };
  for (const Row row : {Row{0.002, 2.2, 10'000}, Row{0.005, 5.4, 5'000}, Row{0.010, 10.7, 5'000}}) {
    INFO("rate " << row.rate);
    check_within_factor_2(run(simulation(row.rate, 5'000), Feedback::ef14), row.ef14);
    // The reference reaches 4e-14 to 4e-13 in double; our messages are float32.
    CHECK(run(simulation(row.rate, row.steps), Feedback::difference, 0) < 1e-5);
    CHECK(run(simulation(row.rate, row.steps), Feedback::difference, 1.0 / kCount) < 1e-5);
    CHECK(run(simulation(row.rate, 2'000), Feedback::difference, 1) == kInfinite);
  }
  CHECK(run(simulation(0.005, 15'000), Feedback::difference, 0.1 / kCount) < 1e-5);
  // The error that is fed back decays by itself, in 400 * 40 steps.
  check_within_factor_2(run(simulation(0.005, 20'000), Feedback::difference, 1.0 / 400 / kCount),
                        7e-3);
}

TEST_CASE("EControl's simulation B: with noise a gain near delta is nearly as good as no codec",
          "[codec][econtrol]") {
  struct Row {
    std::size_t clients;
    double dense, ef14, ef21, tenth, whole;
  };
  for (const Row row :
       {Row{4, 0.034, 0.034, 0.29, 0.095, 0.043}, Row{64, 0.0020, 0.0023, 0.017, 0.0058, 0.0026}}) {
    INFO(row.clients << " clients");
    const Simulation simulation{.clients = row.clients,
                                .kept = 4,
                                .spread = 1,
                                .noise = 5,
                                .steps = row.clients == 4 ? 20'000 : 4'000,
                                .average = true};
    const double delta = 4.0 / kCount;
    check_within_factor_2(run(simulation, Feedback::dense), row.dense);
    check_within_factor_2(run(simulation, Feedback::ef14), row.ef14);
    check_within_factor_2(run(simulation, Feedback::difference, 0), row.ef21);
    check_within_factor_2(run(simulation, Feedback::difference, delta / 10), row.tenth);
    check_within_factor_2(run(simulation, Feedback::difference, delta), row.whole);
    CHECK(run(simulation, Feedback::difference, 0.5) == kInfinite);
  }
}

TEST_CASE("econtrol: a vector of zeros, of which nothing is lost, says nothing of the codec",
          "[econtrol]") {
  const test::Chain top{
      "", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", 0.1}})}, "econtrol"};
  const auto sent = [&](bool zeros_first) {
    const auto sender = top.make({kCount}), receiver = top.make({kCount});
    std::vector<float> values(kCount), decoded(kCount), last;
    Rng rng(1);
    for (int step = zeros_first ? 0 : 1; step < 60; ++step) {
      for (std::size_t i = 0; step > 0 && i < kCount; ++i) {
        values[i] = 1 + static_cast<float>((i * 7 + static_cast<std::size_t>(step) * 3) % 11);
      }
      sender->synchronise(receiver->stamp());
      const Bytes bytes = sender->encode(values, rng);
      receiver->decode(bytes, decoded);
      receiver->received(bytes, decoded);
    }
    return decoded;
  };
  CHECK(sent(true) == sent(false));
}

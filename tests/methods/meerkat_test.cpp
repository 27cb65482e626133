// Meerkat against the acceptance list of its sheet.
#include <catch2/catch.hpp>
#include <cmath>
#include <mutex>

#include "data/registry.hpp"
#include "learn/spec.hpp"
#include "math/normals.hpp"
#include "math/vectors.hpp"
#include "methods/detail/seeds.hpp"
#include "methods/detail/skew.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

// Curvature 1 everywhere, optimum 0.
double bowl(PeerId, std::span<const float> w, std::span<float> slope) {
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    if (!slope.empty()) slope[j] = w[j];
    loss += 0.5 * double{w[j]} * w[j];
  }
  return loss;
}

test::Game masked(const test::Problem& problem, double ratio, const char* mask,
                  std::map<std::string, double> more = {}) {
  more["ratio"] = ratio;
  more.try_emplace("probe", 0.1);
  test::Game game = problem.game("meerkat", more);
  test::choose(game.method, "mask", mask);
  return game;
}

}  // namespace

TEST_CASE("meerkat: a mask of everything is decomfl, bit for bit", "[methods][seeds][meerkat]") {
  const test::Problem toy(3, 40, bowl, 0.01);
  std::vector<float> start(40);
  for (std::size_t j = 0; j < 40; ++j) start[j] = static_cast<float>(j) / 7;
  test::Game game = masked(toy, 1, "magnitude");
  game.plan.rounds = 30;
  game.plan.initial = start;
  test::Game dense = toy.game("decomfl", {{"probe", 0.1}});
  test::choose(dense.method, "form", "central");
  dense.plan.rounds = 30;
  dense.plan.initial = start;
  CHECK(play(game).weights == play(dense).weights);
}

TEST_CASE("meerkat: replicas, the mask's bytes, and weights that never move",
          "[methods][seeds][meerkat]") {
  constexpr std::size_t kSize = 20'000;
  const test::Problem toy(4, kSize, bowl, 0.01);
  test::Game game = masked(toy, 0.001, "random");
  game.plan.rounds = 40;
  game.plan.per_round = 2;
  game.plan.train.steps = 3;
  game.plan.initial.assign(kSize, 0.5F);
  game.lost_sends = {9};
  const Played played = play(game);
  REQUIRE(played.error.empty());
  std::size_t moved = 0;
  for (const float weight : played.last()) moved += weight != 0.5F ? 1 : 0;
  CHECK(moved == 20);
  for (const Message& client : played.clients) {
    const wire::Expect state(client, "state");
    const auto round = static_cast<std::size_t>(state.integer("round", 1, 39));
    const auto own = state.f32("weights", {20});
    std::size_t at = 0;
    for (std::size_t j = 0; j < kSize; ++j) {
      if (played.last()[j] != 0.5F) CHECK(own[at++] == played.weights[round - 1][j]);
    }
  }
  // The first round's two tasks are the mask: its size, and 20 positions near their entropy.
  const double p = 0.001, entropy = -p * std::log2(p) - (1 - p) * std::log2(1 - p);
  const auto first = static_cast<double>(played.bytes[0].down.payload) / 2;
  CHECK(first <= 4 + 1.1 * entropy * kSize / 8 + 2);
  CHECK(played.bytes[20].up.payload == 2 * 4 * 3);
  CHECK(played.bytes[20].down.payload % (4 * 3) == 0);
  CHECK(played.all_bytes().up.payload == (40 * 2 - 1) * 4 * 3);
}

TEST_CASE("meerkat: who has answered has the mask, who has not gets it",
          "[methods][seeds][meerkat]") {
  const test::Problem toy(3, 200, bowl, 0.01);
  test::Game game = masked(toy, 0.05, "random");
  game.plan.rounds = 4;
  game.plan.train.steps = 3;
  game.lost_answers = {{2, 0}};  // of round 1
  std::map<PeerId, std::vector<bool>> masks;
  std::mutex mutex;
  game.spy = [&](PeerId id, const Message& task) {
    const std::scoped_lock lock(mutex);
    masks[id].push_back(task.tensors.contains("mask"));
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  using Masks = std::vector<bool>;
  CHECK(masks[0] == Masks{true, false, false, false});
  CHECK(masks[1] == Masks{true, false, false, false});
  CHECK(masks[2].front());
  const std::size_t mask = played.bytes[0].down.payload / 3, log = 4 * 3;
  CHECK(played.bytes[1].down.payload == 3 * log + mask);  // client 2 gets it again
}

TEST_CASE("meerkat: variance is that of the mask", "[methods][seeds][meerkat]") {
  constexpr std::size_t kSize = 500;
  constexpr int kDraws = 100'000;
  std::vector<std::size_t> mask;
  std::vector<float> gradient;
  double square = 0;
  for (std::size_t j = 3; j < kSize; j += 25) {
    mask.push_back(j);
    gradient.push_back(static_cast<float>(std::sin(j)));
    square += std::pow(std::sin(j), 2);
  }
  std::vector<float> z(mask.size());
  double mean = 0;
  for (std::uint64_t key = 0; key < kDraws; ++key) {
    math::gather_normals(key, mask, z);
    mean += std::pow(math::dot(z, gradient), 2) * math::dot(z, z) / kDraws;
  }
  CHECK(mean == Approx((static_cast<double>(mask.size()) + 2) * square).epsilon(0.02));
}

TEST_CASE("meerkat: the right ten of 1000 weights", "[methods][seeds][meerkat]") {
  constexpr std::size_t kSize = 1000;
  std::vector<float> start(kSize);
  for (std::size_t j = 0; j < 10; ++j) start[97 * j + 5] = 1;
  const auto rounds = [&](double ratio, const char* mask, double rate, std::int64_t most) {
    double mean = 0;
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const test::Problem toy(1, kSize, bowl, rate);
      test::Game game = masked(toy, ratio, mask);
      game.seed = seed;
      game.plan.initial = start;
      game.plan.rounds = most;
      const Played played = play(game);
      std::size_t round = 0;
      while (round < played.weights.size() && bowl(0, played.weights[round], {}) > 0.5) ++round;
      mean += static_cast<double>(round + 1) / 5;
    }
    return mean;
  };
  double right = 1e9, dense = 1e9;
  for (double rate = 0.03; rate < 0.2; rate *= 1.2) {
    right = std::min(right, rounds(0.01, "magnitude", rate, 150));
  }
  for (const double rate : {0.0007, 0.001, 0.0013}) {
    dense = std::min(dense, rounds(1, "magnitude", rate, 4000));
  }
  const double any = rounds(0.01, "random", 0.08, 2000);
  WARN("rounds to a tenth of the loss: the right mask " << right << ", dense " << dense
                                                        << ", a random mask " << any);
  CHECK(right == Approx(24).epsilon(0.25));
  CHECK(dense == Approx(2260).epsilon(0.25));
  CHECK(any > 2000);
}

TEST_CASE("meerkat: many steps a round end at the plain mean, one at the weighted",
          "[methods][seeds][meerkat]") {
  // Two clients of curvature 3 and 1 with optima +1 and -1.
  const auto pull = [](PeerId id, std::span<const float> w, std::span<float>) {
    return id == 0 ? 1.5 * std::pow(double{w[0]} - 1, 2) : 0.5 * std::pow(double{w[0]} + 1, 2);
  };
  const auto end = [&](std::int64_t steps, std::int64_t rounds, double rate) {
    const test::Problem toy(2, 1, pull, rate);
    test::Game game = masked(toy, 1, "magnitude");
    game.plan.rounds = rounds;
    game.plan.train.steps = steps;
    const Played played = play(game);
    double mean = 0;
    const std::size_t half = played.weights.size() / 2;
    for (std::size_t round = half; round < played.weights.size(); ++round) {
      mean += double{played.weights[round][0]} / static_cast<double>(played.weights.size() - half);
    }
    return mean;
  };
  CHECK(end(1, 6000, 0.01) == Approx(0.5).margin(0.03));  // (a - b) / (a + b)
  CHECK(end(3000, 4, 0.01) == Approx(0).margin(0.03));
}

TEST_CASE("meerkat-vp: a slope that dies out is told from one that does not",
          "[methods][seeds][meerkat]") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Rng rng(seed);
    std::vector<float> dies, stays;
    for (int step = 0; step < 100; ++step) {
      const double a = rng.normal(), b = rng.normal();
      const double along = (a + b) * a;  // slope times <g_pub, z>
      dies.push_back(static_cast<float>(std::abs(along) * (step < 20 ? 1 : 0.001)));
      stays.push_back(static_cast<float>(std::abs(along * std::sin(0.7 * step))));
    }
    CHECK(verdict_of(dies, {}).skewed);
    CHECK_FALSE(verdict_of(stays, {}).skewed);
  }
}

TEST_CASE("meerkat-vp: a skewed client is asked for one step, and it survives a checkpoint",
          "[methods][seeds][meerkat]") {
  // Client 0 starts where it wants to be after a few rounds; the others pull on.
  config::Plugin targets = config::make_plugin(data::dataset_kinds(), "quadratic_targets",
                                               {{"rows", 4}, {"cols", 4}, {"rank", 2}});
  const data::Source source = data::open(targets, Rng(1).stream("data"));
  const learn::LearnerSpec spec{config::make_plugin(learn::family_kinds(), "quadratic"),
                                config::make_plugin(learn::adapter_kinds(), "full"),
                                source.train->info(), Rng(1).stream("init")};
  learn::LearnerPool pool(learn::make_factory(spec), 1);
  const test::Problem frame(3, 16, bowl, 0.002);
  std::map<std::string, double> skewed = {{"ratio", 0.5},         {"vp", 1},
                                          {"vp_calibration", 20}, {"vp_drop", 1e-6},
                                          {"vp_quiet", 1e-6},     {"vp_sigma", 1e6}};
  test::Game game = frame.game("meerkat", skewed);  // everyone is skewed
  struct Public final : config::Fields {
    config::Plugin data;
    void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
    void real(std::string_view, double&, config::Range, std::string_view) override {}
    void boolean(std::string_view, bool&, std::string_view) override {}
    void text(std::string_view, std::string&, config::Text, std::string_view) override {}
    void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
    void section(std::string_view, config::Options&, std::string_view) override {}
    void plugin(std::string_view, config::Plugin&, const config::Kinds&,
                std::string_view) override {}
    void plugins(std::string_view, std::vector<config::Plugin>& value, const config::Kinds&,
                 std::size_t, std::string_view) override {
      value = {data};
    }
  } public_data;
  public_data.data = targets;
  game.method.options->fields(public_data);
  game.learners = &pool;
  game.data = source.train.get();
  game.plan.layout = pool.acquire()->layout();
  game.plan.rounds = 10;
  game.plan.train.steps = 4;
  std::map<std::int64_t, std::int64_t> steps;
  game.spy = [&](PeerId, const Message& task) {
    const wire::Expect expect(task, "train");
    steps[expect.integer("round", 1, 100)] =
        task.scalars.contains("steps") ? expect.integer("steps", 1, 4) : 4;
  };
  const Played whole = play(game);
  REQUIRE(whole.error.empty());
  for (std::int64_t round = 1; round <= 10; ++round) CHECK(steps[round] == (round <= 5 ? 4 : 1));
  for (const std::int64_t stop : {3, 7}) {
    game.stop_after = stop;
    game.first_round = 1;
    game.after = nullptr;
    const Played half = play(game);
    game.stop_after = -1;
    game.first_round = stop + 1;
    game.after = &half;
    CHECK(play(game).last() == whole.last());
  }
  // Ablated, it is found and asked like the others.
  const auto weights_with = [&](const std::map<std::string, double>& numbers) {
    test::Game other = game;
    other.first_round = 1;
    other.after = nullptr;
    other.method = frame.game("meerkat", numbers).method;
    other.method.options->fields(public_data);
    return play(other).weights;
  };
  const auto plain = weights_with({{"ratio", 0.5}});
  CHECK(whole.weights != plain);
  skewed["ablate"] = 1;
  CHECK(weights_with(skewed) == plain);
}

// decoupled_diloco against the acceptance list of its sheet.
#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/decoupled.hpp"
#include "support/play.hpp"
#include "support/pulls.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::away;
using test::play;
using test::Played;
using test::Pulls;

namespace {

struct Combined {
  std::vector<float> values;
  std::int64_t means = 0;
};

Combined combined(const std::vector<std::vector<float>>& deltas,
                  std::vector<std::size_t> bounds = {}, bool switches = false,
                  std::vector<double> weights = {}) {
  std::vector<aggregate::Contribution> in;
  for (std::size_t m = 0; m < deltas.size(); ++m) {
    in.push_back({static_cast<PeerId>(m), weights.empty() ? 1 : weights[m], deltas[m]});
  }
  if (bounds.empty()) bounds = {0, deltas[0].size()};
  Combined out{std::vector<float>(deltas[0].size())};
  const config::Plugin plain = config::make_plugin(aggregate::aggregator_kinds(), "mean");
  for (const aggregate::AggregatorEntry& one : aggregate::aggregators()) {
    if (one.kind.name != "mean") continue;
    out.means = combine_radially(in, bounds, switches, *one.make(*plain.options), out.values);
  }
  return out;
}

}  // namespace

TEST_CASE("decoupled_diloco: with everyone waited for it is diloco, bit for bit",
          "[methods][decoupled]") {
  constexpr std::size_t kSize = 9;
  const Pulls pulls(3, kSize, 61);
  const test::Problem toy(3, kSize, pulls, 0.1);
  for (const auto& [lr, momentum] : {std::pair{0.7, 0.9}, {1.0, 0.0}}) {
    test::Game merged = toy.game(
        "decoupled_diloco",
        {{"fragments", 1}, {"quorum", 3}, {"gamma", 0}, {"lr", lr}, {"momentum", momentum}});
    test::Game rounds = toy.game("diloco", {{"lr", lr}, {"momentum", momentum}});
    test::Game averaged = toy.game("fedavg");
    for (test::Game* game : {&merged, &rounds, &averaged}) {
      game->plan.rounds = 15;
      game->plan.train.steps = 4;
      game->plan.step_ms = 10;
      game->plan.slow_share = 0.4;
      game->plan.slow_factor = 10;
    }
    const Played played = play(merged);
    REQUIRE(played.error.empty());
    CHECK(played.weights == play(rounds).weights);
    if (momentum > 0) continue;
    const Played fedavg = play(averaged);
    for (std::size_t round = 0; round < 15; ++round) {
      CHECK(math::distance(played.weights[round], fedavg.weights[round]) < 1e-6);
    }
  }
}

TEST_CASE("decoupled_diloco: lengths and directions are averaged apart", "[methods][decoupled]") {
  CHECK(combined({{3, -4, 1}}).values[1] == Approx(-4));
  for (const std::size_t clients : {2, 4, 8, 16}) {
    std::vector<std::vector<float>> deltas(clients, std::vector<float>(16));
    for (std::size_t m = 0; m < clients; ++m) deltas[m][m] = 1;
    const Combined apart = combined(deltas);
    CHECK(math::norm(apart.values) == Approx(1));
    CHECK(apart.means == 0);
    CHECK(apart.values[0] == Approx(1 / std::sqrt(static_cast<double>(clients))));
    // Their mean is 1 / sqrt(clients) long: not yet a reason to switch.
    CHECK(combined(deltas, {}, true).values == apart.values);
    for (std::vector<float>& delta : deltas) {
      for (float& value : delta) value *= 7;
    }
    CHECK(math::norm(combined(deltas).values) == Approx(7));
  }
  const Combined cancelled = combined({{3, 0}, {-1, 0}});
  CHECK(cancelled.values == std::vector<float>{1, 0});
  CHECK(cancelled.means == 1);
  CHECK(combined({{2, 2}, {0, 0}}).values[0] == Approx(1));
  CHECK(combined({{4, 0}, {0, 2}}, {}, false, {3, 1}).values[0] ==
        Approx(3.5 * 3 / std::sqrt(10.0)));
  // Each tensor by itself; the second one's directions nearly cancel.
  const std::vector<std::vector<float>> two = {{1, 0, 1, 0.1F}, {0, 1, -1, 0.1F}};
  CHECK(combined(two, {0, 2, 4}).values[3] > 0.9F);
  const Combined switched = combined(two, {0, 2, 4}, true);
  CHECK(switched.values[0] == Approx(std::sqrt(0.5)));
  CHECK(switched.values[3] == 0.1F);
  CHECK(switched.means == 1);
}

TEST_CASE("decoupled_diloco: fragments know where their tensors begin", "[methods][decoupled]") {
  Layout layout;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string name = "layers." + std::to_string(layer) + ".";
    layout.add(name + "a", "base", {2});
    layout.add(name + "b", "base", {3});
  }
  const auto strided = fragments_of(layout, 2, true);
  CHECK(strided[0].bounds(layout) == std::vector<std::size_t>{0, 2, 5, 7, 10});
  CHECK(strided[1].bounds(layout) == std::vector<std::size_t>{0, 2, 5});
  Layout flat;
  flat.add("w", "all", {10});
  for (const Fragment& fragment : fragments_of(flat, 3, true)) {
    CHECK(fragment.bounds(flat) == std::vector<std::size_t>{0, fragment.size()});
  }
}

TEST_CASE("decoupled_diloco: weights of tokens", "[methods][decoupled]") {
  CHECK(token_weight(100, 10) == 1000);
  CHECK(token_weight(100, 0) == 0);
  CHECK(token_weight(0, 10) == 0);
  // Of a client that says how much it trained: 4 steps of one example.
  const test::Problem toy(2, 4, Pulls(2, 4, 62), 0.1);
  test::Game game = toy.game("decoupled_diloco", {{"fragments", 2}, {"quorum", 2}});
  test::choose(game.method, "weights", "tokens");
  game.plan.rounds = 5;
  game.plan.train.steps = 4;
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> seen;
  game.overhear = [&](PeerId id, const Message& answer) {
    const wire::Expect update(answer, "update");
    if (id == 0) {
      seen[update.integer("round", 1, 5)] = {update.integer("tokens", 0, 99),
                                             update.integer("token_steps", 0, 99)};
    }
  };
  REQUIRE(play(game).error.empty());
  // Fragment 0 comes with the first question and those behind merges 1 and 3, fragment 1 with the
  // first and those behind 2 and 4.
  const std::vector<std::int64_t> steps = {4, 8, 8, 8, 8};
  for (std::int64_t round = 1; round <= 5; ++round) {
    INFO(round);
    const std::int64_t expected = steps[static_cast<std::size_t>(round - 1)];
    CHECK(seen[round] == std::pair(expected, expected));
  }
}

TEST_CASE("decoupled_diloco: the grace", "[methods][decoupled]") {
  GraceOptions options{.gamma = 0.5, .tau = 2, .cap_s = 3};
  Grace grace(options);
  CHECK(grace.seconds() == 3);
  grace.saw_quorum(1);
  CHECK(grace.seconds() == 3);
  grace.saw_step(1);
  CHECK(grace.seconds() == 0.5);
  Message state("state");
  grace.save(state);
  Grace again(options);
  again.load(state);
  CHECK(again.seconds() == 0.5);
  for (int i = 0; i < 50; ++i) grace.saw_quorum(100);
  CHECK(grace.seconds() == 0);
  for (int i = 0; i < 50; ++i) grace.saw_step(1000);
  CHECK(grace.seconds() == 3);
  CHECK(Grace({.gamma = 0}).seconds() == 0);
}

TEST_CASE("decoupled_diloco: slow clients hold up no merge, and are asked for less",
          "[methods][decoupled]") {
  const test::Problem toy(6, 12, Pulls(6, 12, 63), 0.05);
  test::Game game = toy.game("decoupled_diloco", {{"quorum", 2}, {"grace_max_s", 5}, {"lr", 0.4}});
  game.plan.rounds = 120;
  game.plan.train.steps = 10;
  game.plan.step_ms = 10;
  game.plan.slow_share = 0.4;
  game.plan.slow_factor = 10;
  std::map<PeerId, std::int64_t> fewest;
  std::map<PeerId, std::vector<std::int64_t>> answered;
  game.spy = [&](PeerId id, const Message& task) {
    const std::int64_t steps = wire::Expect(task, "train").integer("steps", 1, 10);
    fewest[id] = fewest.contains(id) ? std::min(fewest[id], steps) : steps;
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  REQUIRE(played.reports.size() == 120);
  std::int64_t slow = 0;
  for (const auto& [id, steps] : fewest) slow += steps < 10;
  CHECK(slow >= 1);
  CHECK(slow <= 3);
  double late = 0, beyond_quorum = 0;
  for (std::size_t merge = 1; merge < 120; ++merge) {
    const RoundReport& report = played.reports[merge];
    // A step of the fast ones takes 100 ms, tau of them 200 ms; the first merge knew none.
    CHECK(report.train_ms <= 200 + 1e-6);
    late += *report.staleness > 0;
    beyond_quorum += report.replied > 6 - slow;
  }
  CHECK(late > 0);            // and yet
  CHECK(beyond_quorum > 20);  // slow ones take part
  // Frozen, the grace is its cap, and everyone is in.
  test::Game frozen =
      toy.game("decoupled_diloco", {{"quorum", 2}, {"grace_max_s", 5}, {"lr", 0.4}, {"ablate", 1}});
  frozen.plan = game.plan;
  for (const RoundReport& report : play(frozen).reports) {
    CHECK(report.replied == 6);
    CHECK(report.train_ms == Approx(1000));
  }
}

TEST_CASE("decoupled_diloco: a step of fixed length stalls, with the switch it does not",
          "[methods][decoupled]") {
  constexpr std::size_t kSize = 24;
  const Pulls pulls(4, kSize, 64);
  const std::vector<double> point = pulls.fixed_point(0.05, 10);
  const auto end = [&](const char* merge, double lr, bool ablate) {
    const test::Problem toy(4, kSize, pulls, 0.05);
    test::Game game = toy.game("decoupled_diloco", {{"fragments", 1},
                                                    {"quorum", 4},
                                                    {"gamma", 0},
                                                    {"lr", lr},
                                                    {"momentum", 0},
                                                    {"ablate", ablate}});
    test::choose(game.method, "merge", merge);
    game.plan.rounds = 800;
    game.plan.train.steps = 10;
    const Played played = play(game);
    REQUIRE(played.error.empty());
    return away(played.last(), point);
  };
  for (const double lr : {1.0, 0.3}) {
    const double mean = end("mean", lr, false), stalled = end("rda", lr, true),
                 switched = end("rda", lr, false);
    WARN("distance over the norm at lr " << lr << ": mean " << mean << ", rda " << stalled
                                         << ", rda with the switch " << switched);
    CHECK(mean < 1e-6);  // float32
    CHECK(stalled > 0.1);
    CHECK(switched < 1e-6);
  }
}

TEST_CASE("decoupled_diloco: clients that die, lie and forget", "[methods][decoupled]") {
  const Pulls pulls(5, 12, 65);
  const test::Problem toy(5, 12, pulls, 0.05);
  const auto game_with = [&](double quorum) {
    test::Game game =
        toy.game("decoupled_diloco", {{"quorum", quorum}, {"grace_max_s", 0.2}, {"lr", 0.4}});
    game.plan.rounds = 200;
    game.plan.train.steps = 5;
    game.plan.step_ms = 10;
    return game;
  };
  const auto loss = [&](const Played& played) {
    double sum = 0;
    for (PeerId id = 0; id < 5; ++id) sum += pulls(id, played.last(), {});
    return sum;
  };
  const Played calm = play(game_with(3));
  REQUIRE(calm.error.empty());
  for (const std::uint64_t seed : {1, 2, 3}) {
    test::Game game = game_with(3);
    Rng rng(seed);
    for (int i = 0; i < 60; ++i) game.lost_sends.insert(rng.below(900));
    const Played played = play(game);
    INFO(seed << ": " << loss(played) << ", " << loss(calm));
    REQUIRE(played.error.empty());
    CHECK(std::abs(loss(played) / loss(calm) - 1) < 0.02);
    std::int64_t lost = 0;
    for (const RoundReport& report : played.reports) {
      CHECK(report.train_ms <= 50 + 50 + 200);  // who is asked anew, and the grace
      lost += report.lost;
    }
    CHECK(lost > 40);
    CHECK(play(game).weights == played.weights);
  }
  // Lies: none of them gets in, and none of them makes the server ask without end.
  const auto update = [](std::int64_t round, std::int64_t steps, Tensor delta) {
    return Message("update")
        .with("round", round)
        .with("examples", std::int64_t{1})
        .with("tokens", std::int64_t{1})
        .with("token_steps", steps)
        .with("steps", std::int64_t{1})
        .with("loss", 0.0)
        .with("delta.0", std::move(delta));
  };
  Tensor nan = Tensor::zeros(DType::f32, {3});
  nan.f32()[1] = NAN;
  for (const Message& lie :
       {update(1, 1, nan), update(1, 1, Tensor::zeros(DType::f32, {4})),
        update(1, -1, Tensor::zeros(DType::f32, {3})), update(0, 1, Tensor::zeros(DType::f32, {3})),
        update(1'000'000, 1, Tensor::zeros(DType::f32, {3})), Message("update"), Message("noise"),
        Message(kBehind), Message(kFailed)}) {
    test::Game game = game_with(4);
    game.plan.rounds = 8;
    game.lies = {{2, lie}};
    const Played played = play(game);
    REQUIRE(played.error.empty());
    std::int64_t rejected = 0;
    for (const RoundReport& report : played.reports) rejected += report.rejected;
    // One that claims to answer the first question is late from the second merge on.
    CHECK(rejected >= 1);
    CHECK(rejected <= 8);
  }
  // A client that has forgotten says so and is asked again for the same merge.
  test::Game first = game_with(5);
  first.stop_after = 4;
  const Played half = play(first);
  test::Game rest = game_with(5);
  rest.plan.rounds = 9;
  rest.first_round = 5;
  rest.after = &half;
  const Played remembered = play(rest);
  rest.forgetful = {1};
  const Played forgotten = play(rest);
  REQUIRE(forgotten.error.empty());
  CHECK(forgotten.reports[0].rejected == 1);
  CHECK(forgotten.reports[0].replied == 5);
  // With everyone in every merge, a boundary is as if nothing had happened.
  test::Game whole = game_with(5);
  whole.plan.rounds = 9;
  CHECK(remembered.last() == play(whole).last());
}

TEST_CASE("decoupled_diloco: rota and bytes", "[methods][decoupled]") {
  constexpr std::size_t kSize = 22;  // fragments of 5, 6, 5, 6
  const test::Problem toy(3, kSize, Pulls(3, kSize, 66), 0.05);
  test::Game game = toy.game("decoupled_diloco", {{"quorum", 3}});
  game.plan.rounds = 12;
  game.plan.train.steps = 5;
  const Played played = play(game);
  REQUIRE(played.error.empty());
  const std::vector<std::size_t> sizes = {5, 6, 5, 6};
  for (std::size_t merge = 0; merge < 12; ++merge) {
    INFO(merge);
    CHECK(played.bytes[merge].up.payload == 3 * 4 * sizes[merge % 4]);
    CHECK(played.bytes[merge].down.payload ==
          3 * 4 * (merge == 0 ? kSize : sizes[(merge + 3) % 4]));
    // Only the due fragment is moved.
    std::size_t first = 0;
    for (std::size_t p = 0; p < 4; first += sizes[p++]) {
      bool moved = false;
      for (std::size_t i = first; i < first + sizes[p]; ++i) {
        moved |= played.weights[merge][i] != (merge == 0 ? 0 : played.weights[merge - 1][i]);
      }
      CHECK(moved == (p == merge % 4));
    }
  }
}

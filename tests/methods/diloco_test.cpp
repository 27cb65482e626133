// diloco, streaming_diloco and co2 against the acceptance lists of their sheets.
#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/fragments.hpp"
#include "support/play.hpp"
#include "support/pulls.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::away;
using test::play;
using test::Played;
using test::Pulls;

TEST_CASE("fragments: layers strided and sequential, and models without layers",
          "[methods][diloco]") {
  Layout layout;
  layout.add("embed.weight", "base", {3});
  for (int layer = 0; layer < 5; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    layout.add(name + "a", "base", {2});
    layout.add(name + "b", "base", {1});
  }
  layout.add("norm.weight", "base", {4});
  std::vector<float> vector(layout.size());
  for (std::size_t i = 0; i < vector.size(); ++i) vector[i] = static_cast<float>(i);
  const auto strided = fragments_of(layout, 2, true);
  REQUIRE(strided.size() == 2);
  CHECK(strided[0].of(vector) == std::vector<float>{0, 1, 2, 3, 4, 5, 9, 10, 11, 15, 16, 17});
  CHECK(strided[1].of(vector) == std::vector<float>{6, 7, 8, 12, 13, 14, 18, 19, 20, 21});
  const auto sequential = fragments_of(layout, 2, false);
  CHECK(sequential[0].size() + sequential[1].size() == vector.size());
  CHECK(sequential[0].of(vector)[11] == 11);
  std::vector<float> copy(vector.size());
  for (const Fragment& fragment : sequential) fragment.put(fragment.of(vector), copy);
  CHECK(copy == vector);
  CHECK(fragments_of(layout, 40, true).size() == 5);
  Layout flat;
  flat.add("w", "all", {10});
  const auto runs = fragments_of(flat, 4, true);
  REQUIRE(runs.size() == 4);
  CHECK(runs[0].size() + runs[1].size() + runs[2].size() + runs[3].size() == 10);
}

TEST_CASE("diloco: with a plain outer step it is fedavg, else its formula", "[methods][diloco]") {
  constexpr std::size_t kSize = 9;
  const Pulls pulls(3, kSize, 41);
  const test::Problem toy(3, kSize, pulls, 0.1);
  test::Game game = toy.game("diloco", {{"lr", 1}, {"momentum", 0}});
  test::Game averaged = toy.game("fedavg");
  for (test::Game* one : {&game, &averaged}) {
    one->plan.rounds = 15;
    one->plan.train.steps = 4;
  }
  const Played plain = play(game), fedavg = play(averaged);
  REQUIRE(plain.error.empty());
  for (std::size_t round = 0; round < 15; ++round) {
    CHECK(math::distance(plain.weights[round], fedavg.weights[round]) < 1e-6);
  }
  game = toy.game("diloco");
  game.plan.rounds = 15;
  game.plan.train.steps = 4;
  const Played outer = play(game);
  std::vector<double> theta(kSize), b(kSize);
  for (std::size_t round = 0; round < 15; ++round) {
    for (std::size_t j = 0; j < kSize; ++j) {
      double delta = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        double w = theta[j];
        for (int k = 0; k < 4; ++k) w -= 0.1 * pulls.curvature[i][j] * (w - pulls.optimum[i][j]);
        delta += (theta[j] - w) / 3;
      }
      b[j] = 0.9 * b[j] + delta;
      theta[j] -= 0.7 * (delta + 0.9 * b[j]);
      CHECK(outer.weights[round][j] == Approx(theta[j]).margin(2e-5));
    }
  }
  CHECK(outer.bytes[3].up.payload == 3 * 4 * kSize);
  CHECK(outer.bytes[3].down.payload == 3 * 4 * kSize);
}

TEST_CASE("diloco: the clients' optimizer lives on", "[methods][diloco]") {
  const Pulls pulls(1, 4, 42);
  const test::Problem toy(1, 4, pulls, 0.1);
  test::Game game = toy.game("diloco", {{"lr", 1}, {"momentum", 0}});
  game.plan.train.optimizer = config::make_plugin(learn::optimizer_kinds(), "adamw", {{"lr", 0.1}});
  game.plan.rounds = 6;
  game.plan.train.steps = 5;
  const Played six = play(game);
  game.plan.rounds = 1;
  game.plan.train.steps = 30;
  const Played once = play(game);
  CHECK(math::distance(six.last(), once.last()) < 1e-5 * math::norm(once.last()));
}

TEST_CASE("streaming_diloco: rota and bytes", "[methods][diloco]") {
  constexpr std::size_t kSize = 22;  // fragments of 5, 6, 5, 6
  const test::Problem toy(2, kSize, Pulls(2, kSize, 43), 0.05);
  test::Game game = toy.game("streaming_diloco", {{"overlap", 2}});
  game.plan.rounds = 12;
  game.plan.train.steps = 5;
  game.lost_sends = {9};
  std::map<std::int64_t, std::vector<std::string>> brought;
  game.spy = [&](PeerId id, const Message& task) {
    if (id != 0) return;
    for (const auto& [name, tensor] : task.tensors) {
      brought[wire::Expect(task, "train").integer("round", 1, 12)].push_back(name);
    }
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(brought[1].size() == 4);
  const std::vector<std::size_t> sizes = {5, 6, 5, 6};
  for (std::int64_t round = 2; round <= 12; ++round) {
    const auto p = static_cast<std::size_t>(round - 2) % 4;
    INFO(round);
    CHECK(brought[round] == std::vector<std::string>{"weights." + std::to_string(p)});
  }
  for (std::size_t round = 6; round < 12; ++round) {  // send 9 is lost in round 5
    CHECK(played.bytes[round].up.payload == 2 * 4 * sizes[round % 4]);
    CHECK(played.bytes[round].down.payload == 2 * 4 * sizes[(round + 3) % 4]);
  }
}

TEST_CASE("streaming_diloco: with alpha 1 clients go their own ways", "[methods][diloco]") {
  const Pulls pulls(2, 8, 44);
  const test::Problem toy(2, 8, pulls, 0.1);
  test::Game game = toy.game("streaming_diloco", {{"alpha", 1}});
  game.plan.rounds = 200;
  game.plan.train.steps = 5;
  const Played played = play(game);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto own = wire::Expect(played.clients[i], "state").f32("local", {8});
    CHECK(away(own, pulls.optimum[i]) < 1e-4);
  }
}

TEST_CASE("streaming_diloco: 4-bit differences need the difference to the last one",
          "[methods][diloco]") {
  constexpr std::size_t kSize = 24;
  const Pulls pulls(4, kSize, 45);
  const auto end = [&](const char* codec, const std::string& feedback, double lr, double overlap,
                       double alpha) {
    const test::Problem toy(4, kSize, pulls, 0.05);
    test::Game game =
        toy.game("streaming_diloco", {{"lr", lr}, {"overlap", overlap}, {"alpha", alpha}});
    game.plan.rounds = 1600;
    game.plan.train.steps = 10;
    if (codec != nullptr) game.up = {config::make_plugin(codec::codec_kinds(), codec)};
    game.error_feedback = feedback;
    const Played played = play(game);
    REQUIRE(played.error.empty());
    // Where it stands still is the same whatever is done to the differences.
    game.up.clear();
    game.error_feedback = "none";
    const Played exact = play(game);
    const std::vector<double> point(exact.last().begin(), exact.last().end());
    return away(played.last(), point);
  };
  for (const auto& [lr, overlap, alpha] :
       {std::tuple{0.4, 0.0, 0.0}, {0.7, 1.0, 0.5}, {0.4, 5.0, 0.5}}) {
    INFO(lr << ' ' << overlap << ' ' << alpha);
    const double plain = end("e3m0", "none", lr, overlap, alpha);
    const double ef14 = end("e3m0", "ef14", lr, overlap, alpha);
    const double ef21 = end("e3m0", "ef21", lr, overlap, alpha);
    WARN("lr " << lr << ", overlap " << overlap << ", alpha " << alpha << ": e3m0 " << plain
               << ", in ef14 " << ef14 << ", in ef21 " << ef21);
    CHECK(plain > 1e-2);
    CHECK(ef14 > 1e-2);
    CHECK(ef21 < 1e-4);  // float32
  }
}

TEST_CASE("co2: in step it is fedavg, one period late its formula", "[methods][co2]") {
  constexpr std::size_t kSize = 7;
  const Pulls pulls(3, kSize, 46);
  const test::Problem toy(3, kSize, pulls, 0.05);
  test::Game game = toy.game("co2", {{"delay", 0}, {"momentum", 0}});
  test::Game averaged = toy.game("fedavg");
  for (test::Game* one : {&game, &averaged}) {
    one->plan.rounds = 12;
    one->plan.train.steps = 6;
  }
  const Played plain = play(game), fedavg = play(averaged);
  for (std::size_t round = 0; round < 12; ++round) {
    CHECK(math::distance(plain.weights[round], fedavg.weights[round]) < 1e-6);
  }
  for (const double clip : {0.0, 0.3}) {
    game = toy.game("co2", {{"momentum", 0.2}, {"gap_value", 1.5}, {"clip", clip}});
    game.plan.rounds = 25;
    game.plan.train.steps = 6;
    const Played late = play(game);
    REQUIRE(late.error.empty());
    // start: of the periods; the average of one moves the start of the next but one.
    std::vector<std::vector<double>> start = {std::vector<double>(kSize),
                                              std::vector<double>(kSize)};
    std::vector<double> m(kSize);
    for (std::size_t period = 0; period < 25; ++period) {
      std::vector<double> next = start.back();
      for (std::size_t j = 0; j < kSize; ++j) {
        double delta = 0;
        for (std::size_t i = 0; i < 3; ++i) {
          double w = start[period][j];
          for (int k = 0; k < 6; ++k) {
            w -= 0.05 * pulls.curvature[i][j] * (w - pulls.optimum[i][j]);
          }
          delta += (start[period][j] - w) / 3;
        }
        m[j] = 0.2 * m[j] + delta / 1.5;
        if (clip > 0) m[j] = std::clamp(m[j], -clip, clip);
        next[j] -= m[j];
        CHECK(late.weights[period][j] == Approx(next[j]).margin(1e-5));
      }
      start.push_back(next);
    }
  }
}

TEST_CASE("co2: where it diverges, and what repairs it", "[methods][co2]") {
  const Pulls pulls(10, 20, 47);
  const auto end = [&](double lr, double momentum, double gap) {
    const test::Problem toy(10, 20, pulls, 0.03);
    test::Game game = toy.game("co2", {{"lr", lr}, {"momentum", momentum}, {"gap_value", gap}});
    game.plan.rounds = 400;
    game.plan.train.steps = 20;
    const Played played = play(game);
    return played.error.empty() ? away(played.last(), pulls.fixed_point(0.03, 20)) : INFINITY;
  };
  for (const double lr : {0.5, 1.0}) {
    for (const double momentum : {0.0, 0.2, 0.5}) {
      INFO(lr << ", " << momentum);
      const double distance = end(lr, momentum, 1);
      if (lr == 1.0 && momentum == 0.5) {
        CHECK_FALSE(distance < 10);
      } else {
        CHECK(distance < 1e-4);
      }
    }
  }
  CHECK(end(1, 0.5, 2) < 1e-4);
}

TEST_CASE("co2 and streaming_diloco: a slow link is hidden behind training", "[methods][co2]") {
  for (const char* kind : {"co2", "streaming_diloco", "diloco"}) {
    const auto seconds_of = [&](double latency_ms) {
      const test::Problem toy(3, 12, Pulls(3, 12, 48), 0.05);
      std::map<std::string, double> options;
      if (kind == std::string("streaming_diloco")) options["overlap"] = 5;
      test::Game game = toy.game(kind, options);
      game.plan.rounds = 50;
      game.plan.train.steps = 10;
      game.plan.step_ms = 100;
      game.link.latency_ms = latency_ms;
      double time = 0;
      for (const RoundReport& report : play(game).reports) {
        time += (report.train_ms + report.wait_ms) * 1e-3;
      }
      return time;
    };
    const double near = seconds_of(0), far = seconds_of(200);
    INFO(kind << ": " << near << " s, " << far << " s");
    if (kind == std::string("diloco")) {
      CHECK(far > 1.3 * near);
    } else {
      CHECK(far < 1.02 * near + 0.5);  // the first round is not hidden
    }
  }
}

TEST_CASE("sparseloco: on unequal clients only the difference to the last message does not stall",
          "[methods][diloco][sparseloco]") {
  // The sheet's: 4 clients, 64 weights, the 4 largest of each message, 10 steps of 0.05.
  constexpr std::size_t kSize = 64;
  const Pulls pulls(4, kSize, 49);
  const std::vector<double> point = pulls.fixed_point(0.05, 10);
  const auto end = [&](bool sparse, const std::string& feedback, double lr) {
    const test::Problem toy(4, kSize, pulls, 0.05);
    test::Game game = toy.game("diloco", {{"lr", lr}, {"momentum", 0}});
    game.plan.rounds = 2000;
    game.plan.train.steps = 10;
    if (sparse) {
      game.up = {config::make_plugin(codec::codec_kinds(), "topk", {{"ratio", 0.0625}})};
    }
    game.error_feedback = feedback;
    const Played played = play(game);
    REQUIRE(played.error.empty());
    return away(played.last(), point);
  };
  const double dense = end(false, "none", 1), none = end(true, "none", 1);
  const double kept = end(true, "ef14", 1), slower = end(true, "ef14", 0.3);
  const double ef21 = end(true, "ef21", 1);
  WARN("distance over the norm: dense " << dense << ", no feedback " << none
                                        << ", residual kept whole " << kept << ", the same at 0.3 "
                                        << slower << ", ef21 " << ef21);
  CHECK(dense < 1e-5);
  CHECK(none > 0.2);
  CHECK(kept > 0.5);
  CHECK(slower > 0.05);
  CHECK(ef21 < 1e-5);
}

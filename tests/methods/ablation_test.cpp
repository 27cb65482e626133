// `ablate: true`: the run is the one without the adaptive part, bit for bit.
#include <catch2/catch.hpp>

#include "support/play.hpp"
#include "support/pulls.hpp"

using namespace fedctl;
using test::play;
using test::Played;

namespace {

using Numbers = std::map<std::string, double>;
using Texts = std::map<std::string, std::string>;

struct Part {
  std::string method;
  Numbers adaptive;  // without ablate
  Texts texts;
  Numbers plain;
  Texts plain_texts = {};
};

std::vector<std::vector<float>> weights_of(const std::string& method, const Numbers& numbers,
                                           const Texts& texts) {
  constexpr std::size_t kSize = 24;
  const bool slopes = methods::method(method).needs == "loss";
  const test::Problem toy(4, kSize, test::Pulls(4, kSize, 71), slopes ? 0.002 : 0.05);
  test::Game game = toy.game(method, numbers);
  for (const auto& [key, value] : texts) test::choose(game.method, key, value);
  game.plan.layout = {};
  for (std::size_t block = 0; block < 3; ++block) {
    game.plan.layout.add("layers." + std::to_string(block), "all", {8});
  }
  game.plan.rounds = 20;
  game.plan.train.steps = 6;
  game.plan.step_ms = 10;
  game.plan.slow_share = 0.5;
  game.plan.slow_factor = 3;
  const Played played = play(game);
  REQUIRE(played.error.empty());
  return played.weights;
}

}  // namespace

TEST_CASE("what adapts can be frozen", "[methods][ablate]") {
  const std::vector<Part> parts = {
      {"fedbuff", {{"buffer", 2}}, {}, {{"buffer", 2}}, {{"staleness", "constant"}}},
      {"fedasync", {}, {}, {}, {{"staleness", "constant"}}},
      {"ferret", {{"coordinates", 4}}, {}, {{"coordinates", 4}}, {{"budget", "equal"}}},
      {"co2", {{"clip", 0.1}}, {{"gap", "measured"}}, {}},
      {"diloco", {{"alpha", 0.5}, {"overlap", 2}}, {}, {{"alpha", 0}, {"overlap", 0}}},
      {"streaming_diloco", {}, {}, {{"alpha", 0}, {"overlap", 0}}},
      {"decoupled_diloco",
       {{"quorum", 2}, {"lr", 0.4}, {"grace_max_s", 9}},
       {},
       {{"quorum", 4}, {"lr", 0.4}, {"gamma", 0}}},
      {"fedkseed", {{"candidates", 32}, {"pro", 1}}, {}, {{"candidates", 32}}},
      {"decomfl", {{"directions", 2}, {"precondition", 1}}, {}, {{"directions", 2}}},
  };
  for (Part part : parts) {
    INFO(part.method);
    const auto plain = weights_of(part.method, part.plain, part.plain_texts);
    CHECK(weights_of(part.method, part.adaptive, part.texts) != plain);
    part.adaptive["ablate"] = 1;
    CHECK(weights_of(part.method, part.adaptive, part.texts) == plain);
  }
}

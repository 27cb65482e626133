// Secure aggregation against the acceptance list of its sheet.
#include "support/masked.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using namespace fedctl::test;

TEST_CASE("masked: the sum is exact, whoever is lost at which stage", "[methods][secure]") {
  constexpr std::int64_t kClients = 64;
  const Problem toy(kClients, 40, pull, 0.1);
  for (const int percent : {0, 10, 30, 49, 52}) {
    for (std::size_t stage = 0; stage < 4; ++stage) {
      INFO(percent << " % lost at stage " << stage);
      Game game = masked_game(toy);
      std::set<PeerId> gone;
      Rng rng(static_cast<std::uint64_t>(percent) * 7 + stage);
      for (const std::size_t id : rng.permutation(kClients)) {
        if (static_cast<std::int64_t>(gone.size()) < kClients * percent / 100) {
          gone.insert(static_cast<PeerId>(id));
        }
      }
      for (const PeerId id : gone) game.lost_answers.insert({id, stage});
      const Played played = play(game);
      REQUIRE(played.error.empty());
      // Lost at the first stage they are not part of it, and the others need fewer. Behind it the
      // round begins anew, with those who are back, unless the others have begun to unmask.
      const bool broken = percent == 52 && stage > 0;
      CHECK(played.retries.size() == (broken && stage < 3 ? 1 : 0));
      if (broken && stage == 3) {
        CHECK(played.reports[0].replied == 0);
        CHECK(played.last() == std::vector<float>(40));
        continue;
      }
      if (broken || stage == 3) gone.clear();
      CHECK(played.last() == expected(game, all_but(kClients, gone)));
      CHECK(played.reports[0].replied == kClients - static_cast<std::int64_t>(gone.size()));
    }
  }
}

TEST_CASE("masked: among few neighbours", "[methods][secure]") {
  constexpr std::int64_t kClients = 60;
  const Problem toy(kClients, 10, pull, 0.1);
  for (const std::size_t stage : {1U, 2U, 3U}) {
    Game game = masked_game(toy);
    game.plan.secure.few = 16;
    game.plan.secure.few_threshold = 9;
    std::set<PeerId> gone;
    for (const PeerId id : {3, 17, 18, 40, 59}) {
      gone.insert(id);
      game.lost_answers.insert({id, stage});
    }
    const Played played = play(game);
    REQUIRE(played.error.empty());
    CHECK(played.last() ==
          expected(game, all_but(kClients, stage < 3 ? gone : std::set<PeerId>())));
  }
}

TEST_CASE("masked: fedavg up to rounding, with unequal weights too", "[methods][secure]") {
  constexpr std::int64_t kClients = 5;
  const Problem toy(kClients, 30, pull, 0.1);
  for (const char* kind : {"fedavg", "fedprox", "co2"}) {
    INFO(kind);
    Game game = masked_game(toy, kind);
    game.plan.rounds = 10;
    game.plan.train.steps = 3;
    game.plan.secure.examples_max = 3;
    game.shares[2] = {2, 2, 2};
    const Played masked = play(game);
    REQUIRE(masked.error.empty());
    game.plan.secure.on = false;
    const Played plain = play(game);
    // A step of 2 / 65535 a value and client, times the weights' inverse.
    CHECK(math::distance(masked.last(), plain.last()) < 30 * 3 * 2.0 / 65535);
    CHECK(math::norm(plain.last()) > 1);
    CHECK(masked.reports[4].train_loss == Approx(plain.reports[4].train_loss).epsilon(0.01));
    CHECK(masked.reports[4].examples == plain.reports[4].examples);
  }
}

TEST_CASE("masked: what crosses the wire is as long as the formula, and looks like noise",
          "[methods][secure]") {
  constexpr std::int64_t kClients = 6;
  constexpr std::size_t kSize = 100'000;
  const Problem toy(kClients, kSize, pull, 0.1);
  Game game = masked_game(toy);
  std::map<PeerId, Bytes> words;
  std::mutex mutex;
  game.overhear = [&](PeerId id, const Message& answer) {
    const std::scoped_lock lock(mutex);
    if (answer.kind == "masked") words[id] = answer.tensors.at("words").bytes;
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  const MaskedForm form(game.plan, 1);
  CHECK(form.bits() == 19);
  const std::size_t packed = ((kSize + 2) * 19 + 7) / 8;
  CHECK(played.bytes[0].up.payload == kClients * (64 + 5 * 100 + packed + 5 * 36));
  CHECK(packed < 4 * kSize);  // less than float32 in the clear
  REQUIRE(words.size() == kClients);
  for (const auto& [id, bytes] : words) {
    const std::vector<std::uint32_t> own = form.unpack(bytes, kSize + 2);
    std::vector<double> counts(256);
    for (const std::uint32_t word : own) ++counts[word >> 11];
    const double mean = static_cast<double>(own.size()) / 256;
    double square = 0;
    for (const double count : counts) square += std::pow(count - mean, 2) / mean;
    CHECK(square > 170);
    CHECK(square < 350);  // chi-square, 255 degrees of freedom, 1e-4
  }
}

TEST_CASE("masked: a common part of the values, right on average", "[methods][secure]") {
  constexpr std::int64_t kClients = 4;
  constexpr std::size_t kSize = 50;
  const Problem toy(kClients, kSize, pull, 0.1);
  Game game = masked_game(toy);
  game.plan.secure.ratio = 0.2;
  const Played once = play(game);
  REQUIRE(once.error.empty());
  CHECK(once.last() == expected(game, all_but(kClients, {})));
  CHECK(std::ranges::count_if(once.last(), [](float value) { return value != 0; }) == 10);
  const std::size_t packed = (12 * 18 + 7) / 8;
  CHECK(once.bytes[0].up.payload == kClients * (64 + 3 * 100 + packed + 3 * 36));
  std::vector<double> mean(kSize);
  constexpr int kSeeds = 400;
  game.plan.secure.on = false;
  const std::vector<float> exact = play(game).last();
  game.plan.secure.on = true;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    game.seed = seed;
    const std::vector<float> weights = play(game).last();
    for (std::size_t j = 0; j < kSize; ++j) mean[j] += double{weights[j]} / kSeeds;
  }
  double error = 0;
  for (std::size_t j = 0; j < kSize; ++j) error += std::pow(mean[j] - exact[j], 2);
  // Each draw is off by sqrt(1 / ratio - 1) = 2 of its length.
  CHECK(std::sqrt(error) < 1.3 * 2 * math::norm(exact) / std::sqrt(double{kSeeds}));
}

TEST_CASE("masked: a rotation in front of the integers", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  constexpr std::size_t kSize = 1000;
  const Problem toy(kClients, kSize, pull, 0.1);
  Game game = masked_game(toy);
  game.plan.secure.on = false;
  const std::vector<float> plain = play(game).last();
  game.plan.secure.on = true;
  game.plan.secure.rotate = true;
  const Played rotated = play(game);
  REQUIRE(rotated.error.empty());
  // A step of 2 / 65535 a value and client, and float32's own rounding.
  CHECK(math::distance(rotated.last(), plain) < std::sqrt(double{kSize} / kClients) * 2.0 / 65535);
  // Not the values that are sent without it.
  game.plan.secure.rotate = false;
  CHECK(rotated.last() != play(game).last());
  game.plan.secure.rotate = true;
  // The integers' sum word for word, whoever is lost, and with a part of the values.
  for (const double ratio : {1.0, 0.25}) {
    for (const std::size_t stage : {0U, 1U, 2U, 3U}) {
      INFO("ratio " << ratio << ", lost at stage " << stage);
      game.plan.secure.ratio = ratio;
      game.lost_answers = {{1, stage}, {6, stage}};
      const Played played = play(game);
      REQUIRE(played.error.empty());
      CHECK(played.last() == expected(game, all_but(kClients, stage < 3 ? std::set<PeerId>{1, 6}
                                                                        : std::set<PeerId>())));
      const std::size_t words = static_cast<std::size_t>(ratio * kSize) + 2;
      CHECK(MaskedForm(game.plan, 1).count(kSize) == words);
    }
  }
  // A part of the rotated values is a part of every value: right on average.
  std::vector<double> mean(kSize);
  constexpr int kSeeds = 100;
  game.lost_answers.clear();
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    game.seed = seed;
    const std::vector<float> weights = play(game).last();
    for (std::size_t j = 0; j < kSize; ++j) mean[j] += double{weights[j]} / kSeeds;
  }
  double error = 0;
  for (std::size_t j = 0; j < kSize; ++j) error += std::pow(mean[j] - plain[j], 2);
  // Each draw is off by sqrt(1 / ratio - 1) of its length.
  CHECK(std::sqrt(error) < 1.3 * std::sqrt(3.0) * math::norm(plain) / std::sqrt(double{kSeeds}));
}

TEST_CASE("masked: what a rotation is worth for a heavy-tailed update", "[methods][secure]") {
  // Eight clients whose updates have a common part; magnitudes log-normal, the largest of a few
  // dozen times the root mean square.
  constexpr std::size_t kClients = 8, kSize = 8192;
  Rng rng(77);
  std::vector<Message> updates;
  std::vector<double> exact(kSize);
  std::vector<float> common(kSize);
  const auto heavy = [&] {
    return static_cast<float>(rng.normal() * std::exp(1.5 * rng.normal()));
  };
  for (float& value : common) value = heavy();
  double norm = 0;
  float largest = 0;
  for (std::size_t client = 0; client < kClients; ++client) {
    std::vector<float> values(kSize);
    for (std::size_t j = 0; j < kSize; ++j) {
      values[j] = common[j] + 0.3F * heavy();
      exact[j] += double{values[j]} / kClients;
      largest = std::max(largest, std::abs(values[j]));
    }
    norm = std::max(norm, math::norm(values));
    updates.push_back(Message("update")
                          .with("examples", std::int64_t{1})
                          .with("loss", 1.0)
                          .with("delta", Tensor::of(values, {})));
  }
  const double rms = norm / std::sqrt(double{kSize});
  // Mean squared error of the mean over its mean square.
  const auto error = [&](bool rotate, double clip, std::int64_t levels) {
    JobPlan plan;
    plan.per_round = kClients;
    plan.secure = {.on = true, .clip = clip, .levels = levels, .examples_max = 1};
    plan.secure.rotate = rotate;
    const MaskedForm form(plan, 1);
    std::vector<std::uint32_t> sums(form.count(kSize));
    for (std::size_t client = 0; client < kClients; ++client) {
      const auto words = form.words(updates[client], Rng(client));
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += words[i];
    }
    const Message mean = form.mean(sums, kClients, updates[0]);
    double away = 0, square = 0;
    for (std::size_t j = 0; j < kSize; ++j) {
      away += std::pow(mean.tensors.at("delta").f32()[j] - exact[j], 2);
      square += exact[j] * exact[j];
    }
    return away / square;
  };
  const auto best = [&](bool rotate, std::int64_t levels) {
    double least = 1e9, at = 0;
    for (double clip = rms / 2; clip < 1.1 * largest; clip *= 1.2) {
      const double found = error(rotate, clip, levels);
      if (found < least) at = clip / rms;
      least = std::min(least, found);
    }
    return std::pair(least, at);
  };
  WARN("largest value " << largest / rms << " times the root mean square");
  for (const std::int64_t bits : {4, 8, 16}) {
    const std::int64_t levels = (std::int64_t{1} << bits) - 1;
    const double plain = error(false, largest, levels), turned = error(true, 5 * rms, levels);
    const auto [plain_best, plain_clip] = best(false, levels);
    const auto [turned_best, turned_clip] = best(true, levels);
    WARN(bits << " bits: clip at the largest value " << plain << ", best clip " << plain_best
              << " (" << plain_clip << " rms); rotated, clip 5 rms " << turned << ", best clip "
              << turned_best << " (" << turned_clip << " rms)");
    CHECK(turned < plain / 10);
    CHECK(turned_best < plain_best / 3);
  }
}

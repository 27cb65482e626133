// Secure aggregation against the acceptance list of its sheet.
#include "methods/detail/masked.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "math/vectors.hpp"
#include "methods/detail/ids.hpp"
#include "methods/detail/scalars.hpp"
#include "support/play.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

double pull(PeerId id, std::span<const float> w, std::span<float> slope) {
  Rng rng = Rng(51).stream("optimum", id);
  double loss = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    const double away = w[j] - rng.normal();
    if (!slope.empty()) slope[j] = static_cast<float>(away);
    loss += 0.5 * away * away;
  }
  return loss;
}

test::Game masked_game(const test::Problem& problem, const char* method = "fedavg") {
  test::Game game = problem.game(method);
  game.plan.rounds = 1;
  game.plan.secure.on = true;
  game.plan.secure.examples_max = 1;
  return game;
}

// One step of rate 0.1 from 0 by these clients, through integers as the clients round them.
std::vector<float> expected(const test::Game& game, const std::vector<PeerId>& clients) {
  const std::size_t size = game.plan.layout.size();
  JobPlan plan = game.plan;
  plan.common = Rng(1).stream("common");
  const MaskedForm form(plan, 1);
  std::vector<std::uint32_t> sums(form.count(size));
  for (const PeerId id : clients) {
    const std::vector<float> zero(size);
    std::vector<float> slope(size), delta(size);
    const double loss = pull(id, zero, slope);
    for (std::size_t j = 0; j < size; ++j) delta[j] = 0.0F - 0.1F * slope[j];
    const Message update = Message("update")
                               .with("examples", std::int64_t{1})
                               .with("loss", loss)
                               .with("delta", Tensor::of(delta, {}));
    const std::vector<std::uint32_t> words =
        form.words(update, Rng(1).stream("client", id).stream("masked", 1));
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += words[i];
  }
  const Message like =
      Message("update").with("delta", Tensor::zeros(DType::f32, {static_cast<std::int64_t>(size)}));
  const Message mean_update = form.mean(sums, clients.size(), like);
  const auto mean = mean_update.tensors.at("delta").f32();
  return {mean.begin(), mean.end()};
}

std::vector<PeerId> all_but(std::int64_t clients, const std::set<PeerId>& gone) {
  std::vector<PeerId> left;
  for (PeerId id = 0; id < clients; ++id) {
    if (!gone.contains(id)) left.push_back(id);
  }
  return left;
}

}  // namespace

TEST_CASE("masked: the sum is exact, whoever is lost at which stage", "[methods][secure]") {
  constexpr std::int64_t kClients = 64;
  const test::Problem toy(kClients, 40, pull, 0.1);
  for (const int percent : {0, 10, 30, 49, 52}) {
    for (std::size_t stage = 0; stage < 4; ++stage) {
      INFO(percent << " % lost at stage " << stage);
      test::Game game = masked_game(toy);
      game.plan.attempts_max = 1;
      std::set<PeerId> gone;
      Rng rng(static_cast<std::uint64_t>(percent) * 7 + stage);
      for (const std::size_t id : rng.permutation(kClients)) {
        if (static_cast<std::int64_t>(gone.size()) < kClients * percent / 100) {
          gone.insert(static_cast<PeerId>(id));
        }
      }
      for (const PeerId id : gone) game.lost_answers.insert({id, stage});
      const Played played = play(game);
      // Lost at the first stage they are not part of it, and the others need fewer.
      if (percent == 52 && stage > 0) {
        CHECK(played.weights.empty());
        CHECK(played.error.find("secure aggregation") != std::string::npos);
        continue;
      }
      REQUIRE(played.error.empty());
      CHECK(played.last() ==
            expected(game, all_but(kClients, stage < 3 ? gone : std::set<PeerId>())));
      CHECK(played.reports[0].replied ==
            kClients - (stage < 3 ? static_cast<std::int64_t>(gone.size()) : 0));
    }
  }
}

TEST_CASE("masked: among few neighbours", "[methods][secure]") {
  constexpr std::int64_t kClients = 60;
  const test::Problem toy(kClients, 10, pull, 0.1);
  for (const std::size_t stage : {1U, 2U, 3U}) {
    test::Game game = masked_game(toy);
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
  const test::Problem toy(kClients, 30, pull, 0.1);
  for (const char* kind : {"fedavg", "fedprox", "co2"}) {
    INFO(kind);
    test::Game game = masked_game(toy, kind);
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
  const test::Problem toy(kClients, kSize, pull, 0.1);
  test::Game game = masked_game(toy);
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
  const test::Problem toy(kClients, kSize, pull, 0.1);
  test::Game game = masked_game(toy);
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
  const test::Problem toy(kClients, kSize, pull, 0.1);
  test::Game game = masked_game(toy);
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

TEST_CASE("masked: a client refuses what would uncover it", "[methods][secure]") {
  JobPlan plan;
  plan.clients = plan.per_round = 3;
  plan.secure.on = true;
  plan.secure.examples_max = 1;
  plan.layout.add("w", "all", {4});
  // Three clients, by hand.
  std::vector<MaskedClient> clients(3);
  std::vector<Bytes> keys;
  for (MaskedClient& client : clients) {
    const Message hello = Message("keys").with("round", std::int64_t{1});
    keys.push_back(client.answer(hello, plan)->tensors.at("keys").bytes);
  }
  const auto shares_question = [&](PeerId self, std::int64_t threshold) {
    std::vector<PeerId> others;
    Bytes both;
    for (PeerId id = 0; id < 3; ++id) {
      if (id == self) continue;
      others.push_back(id);
      both.insert(both.end(), keys[static_cast<std::size_t>(id)].begin(),
                  keys[static_cast<std::size_t>(id)].end());
    }
    return Message("shares")
        .with("round", std::int64_t{1})
        .with("self", self)
        .with("threshold", threshold)
        .with("peers", tensor_of(bytes_of(others)))
        .with("keys", tensor_of(both));
  };
  {
    MaskedClient other;
    CHECK_THROWS_AS(other.answer(shares_question(0, 2), plan), ProtocolError);  // no keys yet
    other.answer(Message("keys").with("round", std::int64_t{1}), plan);
    CHECK_THROWS_AS(other.answer(shares_question(0, 1), plan), ProtocolError);  // too few to agree
  }
  {
    MaskedClient other;
    other.answer(Message("keys").with("round", std::int64_t{1}), plan);
    Message twice = shares_question(0, 2);
    Bytes& bytes = twice.tensors.at("keys").bytes;
    std::copy_n(bytes.begin(), 64, bytes.begin() + 64);
    CHECK_THROWS_AS(other.answer(twice, plan), ProtocolError);  // one key for two
  }
  std::vector<Bytes> letters;
  for (PeerId id = 0; id < 3; ++id) {
    letters.push_back(clients[static_cast<std::size_t>(id)]
                          .answer(shares_question(id, 2), plan)
                          ->tensors.at("letters")
                          .bytes);
  }
  const Message update = Message("update")
                             .with("examples", std::int64_t{1})
                             .with("loss", 1.0)
                             .with("delta", Tensor::zeros(DType::f32, {4}));
  // Letters to client 0: the first of client 1's and of client 2's.
  Bytes mail(letters[1].begin(), letters[1].begin() + 100);
  mail.insert(mail.end(), letters[2].begin(), letters[2].begin() + 100);
  const std::vector<PeerId> from = {1, 2};
  const auto task = [&](const Bytes& bytes) {
    return Message("train")
        .with("letters_from", tensor_of(bytes_of(from)))
        .with("letters", tensor_of(bytes));
  };
  MaskedClient& client = clients[0];
  const auto unmask = [](std::vector<PeerId> alive, std::vector<PeerId> lost) {
    return Message("unmask")
        .with("round", std::int64_t{1})
        .with("alive", tensor_of(bytes_of(alive)))
        .with("lost", tensor_of(bytes_of(lost)));
  };
  CHECK_THROWS_AS(client.answer(unmask({1, 2}, {}), plan), ProtocolError);  // before its words
  {
    MaskedClient copy = client;
    Bytes forged = mail;
    forged[50] ^= std::byte{1};
    CHECK_THROWS_AS(copy.mask(task(forged), update, plan, Rng(1)), ProtocolError);
  }
  client.mask(task(mail), update, plan, Rng(1));
  CHECK_THROWS_AS(client.mask(task(mail), update, plan, Rng(1)), ProtocolError);  // twice
  {
    MaskedClient copy = client;
    CHECK_THROWS_AS(copy.answer(unmask({1, 2}, {2}), plan), ProtocolError);  // both shares
    CHECK_THROWS_AS(copy.answer(unmask({1}, {5}), plan), ProtocolError);     // a stranger
  }
  CHECK(client.answer(unmask({1}, {2}), plan)->tensors.at("shares").bytes.size() == 72);
  CHECK_THROWS_AS(client.answer(unmask({1}, {2}), plan), ProtocolError);  // once only
}

TEST_CASE("masked: clients that lie do not stop the others", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  for (const Message& lie : {Message("keys"), Message("masked"), Message("surprise"),
                             Message("keys").with("keys", tensor_of(Bytes(64)))}) {
    test::Game game = masked_game(toy);
    game.lies = {{2, lie}};
    const Played played = play(game);
    INFO(lie.kind);
    // Keys of zeros make every neighbour refuse: nothing is learnt, and nothing is hurt.
    if (played.error.empty()) {
      CHECK(played.last() == expected(game, all_but(kClients, {2})));
    } else {
      CHECK(played.error.find("secure aggregation") != std::string::npos);
    }
  }
}

TEST_CASE("masked: words that are none are rejected, and their masks removed",
          "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  const auto bad = GENERATE(as<std::string>{}, "short", "long", "no words", "failed");
  INFO(bad);
  test::Game game = masked_game(toy);
  game.tamper = [&](PeerId id, Message& answer) {
    if (id != 2 || answer.kind != "masked") return;
    Bytes& words = answer.tensors.at("words").bytes;
    if (bad == "short") words.pop_back();
    if (bad == "long") words.push_back(std::byte{0});
    answer.tensors.at("words").shape = {static_cast<std::int64_t>(words.size())};
    if (bad == "no words") answer.tensors.clear();
    if (bad == "failed") answer = Message(kFailed).with("reason", std::string("no memory"));
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(played.reports[0].rejected == 1);
  CHECK(played.last() == expected(game, all_but(kClients, {2})));
}

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

namespace {

// Clients whose server is the test.
struct Cohort {
  explicit Cohort(std::int64_t count, double quorum = 1) {
    plan.clients = plan.per_round = count;
    plan.quorum = quorum;
    plan.secure.on = true;
    plan.secure.examples_max = 1;
    plan.layout.add("w", "all", {4});
    unmasked.resize(static_cast<std::size_t>(count));
    for (PeerId id = 0; id < count; ++id) {
      clients.emplace_back(plan, id, vouching, unmasked[static_cast<std::size_t>(id)]);
    }
  }
  MaskedClient& at(PeerId id) { return clients[static_cast<std::size_t>(id)]; }
  std::vector<PeerId> others(PeerId self) const { return all_but(plan.clients, {self}); }
  void exchange_keys() {
    for (MaskedClient& client : clients) keys.push_back(keys_of(client));
  }
  Bytes keys_of(MaskedClient& client, std::int64_t round = 1) const {
    return client.answer(Message("keys").with("round", round))->tensors.at("keys").bytes;
  }
  Message neighbours(PeerId self, std::int64_t threshold, const std::vector<PeerId>& ids) const {
    Bytes both;
    for (const PeerId id : ids) {
      const Bytes& one = keys[static_cast<std::size_t>(id)];
      both.insert(both.end(), one.begin(), one.end());
    }
    return Message("shares")
        .with("round", std::int64_t{1})
        .with("self", self)
        .with("threshold", threshold)
        .with("peers", tensor_of(bytes_of(ids)))
        .with("keys", tensor_of(both));
  }
  void exchange_letters() {
    const auto threshold = static_cast<std::int64_t>(others(0).size() / 2 + 1);
    for (PeerId id = 0; id < plan.clients; ++id) {
      const auto answer = at(id).answer(neighbours(id, threshold, others(id)));
      letters.push_back(answer->tensors.at("letters").bytes);
    }
  }
  // With the letters of these, all of the same length.
  Message task(PeerId self, const std::vector<PeerId>& from) const {
    Bytes mail;
    for (const PeerId writer : from) {
      const std::vector<PeerId> to = others(writer);
      const auto place = std::ranges::find(to, self) - to.begin();
      const auto first = letters[static_cast<std::size_t>(writer)].begin() +
                         place * static_cast<std::ptrdiff_t>(kLetterBytes);
      mail.insert(mail.end(), first, first + static_cast<std::ptrdiff_t>(kLetterBytes));
    }
    return Message("train")
        .with("round", std::int64_t{1})
        .with("letters_from", tensor_of(bytes_of(from)))
        .with("letters", tensor_of(mail));
  }
  static Message update() {
    return Message("update")
        .with("examples", std::int64_t{1})
        .with("loss", 1.0)
        .with("delta", Tensor::zeros(DType::f32, {4}));
  }
  static Message unmask(const std::vector<PeerId>& alive, const std::vector<PeerId>& lost) {
    return Message("unmask")
        .with("round", std::int64_t{1})
        .with("alive", tensor_of(bytes_of(alive)))
        .with("lost", tensor_of(bytes_of(lost)));
  }

  JobPlan plan;
  Vouching vouching;
  std::vector<std::int64_t> unmasked;
  std::vector<MaskedClient> clients;
  std::vector<Bytes> keys, letters;
};

void refuses(MaskedClient client, const Message& question, const std::string& why) {
  CHECK_THROWS_WITH(client.answer(question), Catch::Contains(why));
}

}  // namespace

TEST_CASE("masked: a client hides among no fewer than the plan says", "[methods][secure]") {
  Cohort cohort(5, 0.75);  // of five, four are needed
  cohort.exchange_keys();
  const MaskedClient& client = cohort.at(0);
  refuses(client, cohort.neighbours(0, 1, {1}), "1 neighbours, the plan says 3");
  refuses(client, cohort.neighbours(0, 2, {1, 2}), "2 neighbours, the plan says 3");
  refuses(client, cohort.neighbours(0, 2, {1, 2, 3, 4}), "2 as threshold, the plan says 3");
  refuses(client, cohort.neighbours(1, 3, {1, 2, 3, 4}), "another client's neighbours");
  refuses(client, cohort.neighbours(0, 3, {0, 1, 2, 3}), "client 0 is no neighbour");
  for (const std::size_t copied : {0U, 2U}) {
    Cohort twice = cohort;
    twice.keys[1] = twice.keys[copied];  // its own, or another neighbour's
    refuses(client, twice.neighbours(0, 3, {1, 2, 3, 4}), "the same key");
  }
  for (const std::ptrdiff_t first : {0, 32}) {
    Cohort small = cohort;
    std::fill_n(small.keys[1].begin() + first, 32, std::byte{0});
    refuses(client, small.neighbours(0, 3, {1, 2, 3, 4}), "small order");
  }
  MaskedClient stranger(cohort.plan, 0, cohort.vouching, cohort.unmasked[0]);
  CHECK_THROWS_AS(stranger.answer(cohort.neighbours(0, 3, {1, 2, 3, 4})), Behind);
  // Among few, as many as the ring has.
  Cohort ring(12);
  ring.plan.secure.few = 6;
  ring.plan.secure.few_threshold = 3;
  ring.exchange_keys();
  refuses(ring.at(0), ring.neighbours(0, 4, {1, 2, 3, 4, 5}), "5 neighbours, the plan says 6");
  refuses(ring.at(0), ring.neighbours(0, 4, {1, 2, 3, 4, 5, 6, 7}), "6 at most");
  refuses(ring.at(0), ring.neighbours(0, 3, {1, 2, 3, 4, 5, 6}), "3 as threshold, the plan says 4");
  CHECK(ring.at(0).answer(ring.neighbours(0, 4, {1, 2, 3, 4, 5, 6})));
}

TEST_CASE("masked: a client unmasks what it was told, once", "[methods][secure]") {
  Cohort cohort(5, 0.75);
  cohort.exchange_keys();
  cohort.exchange_letters();
  MaskedClient& client = cohort.at(0);
  {
    MaskedClient copy = client;
    CHECK_THROWS_WITH(copy.read_letters(cohort.task(0, {1, 2})), Catch::Contains("2 letters"));
  }
  refuses(client, Cohort::unmask({1, 2, 3, 4}, {}), "nothing to unmask");  // before its words
  client.read_letters(cohort.task(0, {1, 2, 3, 4}));
  CHECK_THROWS_AS(client.read_letters(cohort.task(0, {1, 2, 3, 4})), ProtocolError);
  const Message words = client.mask(Cohort::update(), Rng(1));
  CHECK_FALSE(words.tensors.contains("forged"));
  CHECK_THROWS_AS(client.mask(Cohort::update(), Rng(1)), ProtocolError);  // twice
  refuses(client, Cohort::unmask({1}, {2, 3, 4}), "1 neighbours left, the plan says 3");
  refuses(client, Cohort::unmask({1, 2, 3}, {3, 4}), "both shares of client 3");
  refuses(client, Cohort::unmask({1, 2, 3}, {}), "client 4 has written");
  refuses(client, Cohort::unmask({1, 2, 3}, {7}), "client 7 is no neighbour");
  const Bytes shares = client.answer(Cohort::unmask({1, 2, 3}, {4}))->tensors.at("shares").bytes;
  CHECK(shares.size() == 4 * secure::kShareBytes);
  refuses(client, Cohort::unmask({1, 2, 3}, {4}), "has done so already");
  // Nor with other keys, of this round or one before; a later one is another matter.
  CHECK(cohort.unmasked[0] == 1);
  const auto again = client.answer(Message("keys").with("round", std::int64_t{1}));
  CHECK(again->kind == kFailed);
  CHECK(std::get<std::int64_t>(again->scalars.at("unmasked")) == 1);
  CHECK_THROWS_AS(client.answer(cohort.neighbours(0, 3, {1, 2, 3, 4})), Behind);
  CHECK(cohort.keys_of(client, 2).size() == 64);
}

TEST_CASE("masked: a letter that does not open is said to be forged", "[methods][secure]") {
  Cohort cohort(5);
  cohort.exchange_keys();
  cohort.exchange_letters();
  cohort.letters[2][50] ^= std::byte{1};  // to client 0
  MaskedClient& client = cohort.at(0);
  client.read_letters(cohort.task(0, {1, 2, 3, 4}));
  const Message words = client.mask(Cohort::update(), Rng(1));
  CHECK(ids_in(bytes_in(words, "forged")) == std::vector<PeerId>{2});
  const Bytes shares = client.answer(Cohort::unmask({1, 2, 3, 4}, {}))->tensors.at("shares").bytes;
  ByteReader reader(shares);
  for (const PeerId of : {1, 2, 3, 4})
    CHECK(secure::is_share(secure::read_share(reader)) == (of != 2));
}

TEST_CASE("masked: clients vouch for their keys", "[methods][secure]") {
  // A signature that anyone could make; whose it is, the test compares.
  const auto proof = [](PeerId id, ByteView statement) {
    Bytes bytes = keys_statement(Attempt(id), id, statement);
    return bytes;
  };
  Cohort cohort(3);
  std::vector<Vouching> vouching(3);
  for (PeerId id = 0; id < 3; ++id) {
    Vouching& own = vouching[static_cast<std::size_t>(id)];
    own.sign = [&proof, id](ByteView statement) { return proof(id, statement); };
    own.check = [&proof](PeerId of, ByteView statement, ByteView shown) {
      if (!std::ranges::equal(shown, proof(of, statement))) throw ProtocolError("no proof");
    };
    cohort.at(id) =
        MaskedClient(cohort.plan, id, own, cohort.unmasked[static_cast<std::size_t>(id)]);
  }
  std::vector<Bytes> proofs;
  for (PeerId id = 0; id < 3; ++id) {
    const auto answer = cohort.at(id).answer(
        Message("keys").with("round", std::int64_t{1}).with("attempt", std::int64_t{2}));
    cohort.keys.push_back(answer->tensors.at("keys").bytes);
    proofs.push_back(answer->tensors.at("proof").bytes);
    CHECK(proofs.back() == proof(id, keys_statement(Attempt(1, 2), id, cohort.keys.back())));
  }
  const auto question = [&](const std::vector<Bytes>& of) {
    Bytes all;
    ByteWriter writer(all);
    for (const Bytes& one : of) {
      writer.varint(one.size());
      writer.raw(one);
    }
    return cohort.neighbours(0, 2, {1, 2}).with("proofs", tensor_of(all));
  };
  refuses(cohort.at(0), cohort.neighbours(0, 2, {1, 2}), "proofs");
  refuses(cohort.at(0), question({proofs[1]}), "ends early");
  refuses(cohort.at(0), question({proofs[1], proofs[0]}), "no proof");  // client 2's by client 0
  Cohort invented = cohort;
  invented.keys[2] = invented.keys_of(invented.at(2));
  CHECK_THROWS_WITH(
      MaskedClient(cohort.at(0))
          .answer(invented.neighbours(0, 2, {1, 2})
                      .with("proofs", question({proofs[1], proofs[2]}).tensors.at("proofs"))),
      Catch::Contains("no proof"));
  CHECK(cohort.at(0).answer(question({proofs[1], proofs[2]})));
}

TEST_CASE("masked: keys that are none cost their sender, and nobody else", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  for (const Message& lie : {Message("keys"), Message("masked"), Message("surprise"),
                             Message("keys").with("keys", tensor_of(Bytes(63))),
                             Message("keys").with("keys", tensor_of(Bytes(64)))}) {
    test::Game game = masked_game(toy);
    game.lies = {{2, lie}};
    const Played played = play(game);
    INFO(lie.kind);
    REQUIRE(played.error.empty());
    CHECK(played.reports[0].rejected == 1);
    CHECK(played.last() == expected(game, all_but(kClients, {2})));
  }
  // Two that share a key are two liars.
  test::Game game = masked_game(toy);
  std::mutex mutex;
  Bytes common;
  game.tamper = [&](PeerId id, Message& answer) {
    if (answer.kind != "keys" || (id != 2 && id != 5)) return;
    const std::scoped_lock lock(mutex);
    Bytes& keys = answer.tensors.at("keys").bytes;
    if (common.empty()) common.assign(keys.begin(), keys.begin() + 32);
    std::ranges::copy(common, keys.begin());
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(played.reports[0].rejected == 2);
  CHECK(played.last() == expected(game, all_but(kClients, {2, 5})));
}

TEST_CASE("masked: a forged letter costs its sender, and not its reader", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  std::size_t forged = 0;
  game.tamper = [&](PeerId id, Message& answer) {
    if (id != 2 || answer.kind != "shares") return;
    Bytes& letters = answer.tensors.at("letters").bytes;
    for (std::size_t n = 0; n < forged; ++n) letters[n * kLetterBytes + 30] ^= std::byte{1};
  };
  // Of its seven neighbours four must hold a share.
  for (forged = 1; forged <= 3; ++forged) {
    const Played played = play(game);
    INFO(forged << " forged");
    REQUIRE(played.error.empty());
    CHECK(played.reports[0].replied == kClients);
    CHECK(played.last() == expected(game, all_but(kClients, {})));
  }
  for (; forged <= 7; ++forged) {
    const Played played = play(game);
    INFO(forged << " forged");
    REQUIRE(played.error.empty());
    REQUIRE(played.retries.size() == 1);
    CHECK(played.retries[0].rejected == 1);
    CHECK(played.reports[0].clients == kClients - 1);
    CHECK(played.last() == expected(game, all_but(kClients, {2})));
  }
  // Letters of the wrong length: known at once.
  game.tamper = [](PeerId id, Message& answer) {
    if (id != 2 || answer.kind != "shares") return;
    answer.tensors.at("letters") = tensor_of(Bytes(7 * kLetterBytes - 1));
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(played.retries.empty());
  CHECK(played.reports[0].rejected == 1);
  CHECK(played.last() == expected(game, all_but(kClients, {2})));
}

TEST_CASE("masked: a few that cry forgery bring nobody down", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  // Up to half of a client's neighbours, less one, accuse everybody and give no share.
  game.tamper = [](PeerId id, Message& answer) {
    if (id > 2) return;
    if (answer.kind == "masked") {
      answer.tensors["forged"] = tensor_of(bytes_of(all_but(kClients, {id})));
    }
    if (answer.kind == "unmask") answer.tensors.at("shares") = tensor_of(Bytes(7, std::byte{1}));
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  CHECK(played.reports[0].replied == kClients);
  CHECK(played.last() == expected(game, all_but(kClients, {})));
}

TEST_CASE("masked: wrong shares among right ones are found out", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  const auto liars =
      GENERATE(std::vector<PeerId>{0}, std::vector<PeerId>{0, 5}, std::vector<PeerId>{0, 1, 7});
  const auto piece = GENERATE(std::size_t{0}, std::size_t{8});
  game.tamper = [&](PeerId id, Message& answer) {
    if (answer.kind != "unmask" || !std::ranges::binary_search(liars, id)) return;
    Bytes& shares = answer.tensors.at("shares").bytes;
    for (std::size_t at = 4 * piece; at < shares.size(); at += secure::kShareBytes) {
      shares[at] ^= std::byte{1};
    }
  };
  const Played played = play(game);
  INFO(liars.size() << " liars, piece " << piece);
  // Three of seven leave four right shares of each of the others, but three only of their own.
  REQUIRE(played.error.empty());
  CHECK(played.last() == expected(game, all_but(kClients, {})));
}

TEST_CASE("masked: a sum that cannot be found after all is no update", "[methods][secure]") {
  constexpr std::int64_t kClients = 8;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  game.plan.rounds = 2;
  game.plan.secure.levels = 60'000;  // of the 19 bits, sums take 480,000 values
  const auto how = GENERATE(as<std::string>{}, "words", "unmask");
  INFO(how);
  std::mutex mutex;
  std::map<PeerId, int> unmasked;
  game.tamper = [&](PeerId id, Message& answer) {
    const std::scoped_lock lock(mutex);
    const bool first = answer.kind == "unmask" && unmasked[id]++ == 0;
    if (how == "unmask" && first && id < 5) answer = Message(kFailed).with("reason", "gone");
    if (how == "words" && answer.kind == "masked" && id == 2 && unmasked[id] == 0) {
      // All words but the padding of the last byte.
      Bytes& words = answer.tensors.at("words").bytes;
      for (std::size_t i = 0; i + 1 < words.size(); ++i) words[i] ^= std::byte{0xb5};
    }
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  // Asked again, its clients would refuse: the sums of the same updates over two sets of them tell
  // the difference. The round is given up, and the next one is like any other.
  CHECK(played.retries.empty());
  REQUIRE(played.reports.size() == 2);
  CHECK(played.reports[0].replied == 0);
  CHECK(played.weights[0] == std::vector<float>(12));
  CHECK(played.reports[1].replied == kClients);
  CHECK(played.weights[1] != played.weights[0]);
}

TEST_CASE("masked: a round is asked again when its clients come back without their keys",
          "[methods][secure]") {
  constexpr std::int64_t kClients = 5;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  game.plan.quorum = 1;
  const auto stage = GENERATE(as<std::string>{}, "shares", "masked");
  INFO(stage);
  std::mutex mutex;
  std::set<PeerId> done;
  game.tamper = [&](PeerId id, Message& answer) {
    const std::scoped_lock lock(mutex);
    if (answer.kind == stage && done.insert(id).second) answer = Message(kBehind);
  };
  const Played played = play(game);
  REQUIRE(played.error.empty());
  REQUIRE(played.retries.size() == 1);
  CHECK(played.retries[0].lost == kClients);
  CHECK(played.retries[0].rejected == 0);
  CHECK(played.last() == expected(game, all_but(kClients, {})));
}

TEST_CASE("masked: a round that was unmasked before is left out", "[methods][secure]") {
  constexpr std::int64_t kClients = 5;
  const test::Problem toy(kClients, 12, pull, 0.1);
  test::Game game = masked_game(toy);
  game.plan.rounds = 2;
  const Played first = play(game);
  REQUIRE(first.error.empty());
  // The server has lost what it knew; the clients have not.
  for (PeerId id = 0; id < kClients; ++id) game.unmasked[id] = 1;
  const Played again = play(game);
  REQUIRE(again.error.empty());
  REQUIRE(again.reports.size() == 2);
  CHECK(again.reports[0].replied == 0);
  CHECK(again.weights[0] == std::vector<float>(12));
  CHECK(again.reports[1].replied == kClients);
  // One of them goes without.
  game.unmasked = {{3, 1}};
  const Played without = play(game);
  REQUIRE(without.error.empty());
  CHECK(without.reports[0].replied == kClients - 1);
  CHECK(without.reports[0].rejected == 0);
  CHECK(without.weights[0] == expected(game, all_but(kClients, {3})));
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

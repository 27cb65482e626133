// Secure aggregation among clients that lie, and under a server that does.
#include <catch2/catch.hpp>

#include "methods/detail/ids.hpp"
#include "methods/detail/scalars.hpp"
#include "support/masked.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using namespace fedctl::test;

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

TEST_CASE("masked: clients that were told of different cohorts cannot read each other",
          "[methods][secure]") {
  Cohort cohort(5, 0.75);
  cohort.exchange_keys();
  for (PeerId id = 0; id < 5; ++id) {
    // Client 4 is there for some of them alone.
    std::vector<PeerId> told = cohort.others(id);
    if (id < 2) std::erase(told, 4);
    const auto threshold = static_cast<std::int64_t>(told.size() / 2 + 1);
    Bytes letters =
        cohort.at(id).answer(cohort.neighbours(id, threshold, told))->tensors.at("letters").bytes;
    letters.resize(4 * kLetterBytes);
    cohort.letters.push_back(letters);
  }
  cohort.at(0).read_letters(cohort.task(0, {1, 2, 3}));
  const Message words = cohort.at(0).mask(Cohort::update(), Rng(1));
  CHECK(ids_in(bytes_in(words, "forged")) == std::vector<PeerId>{2, 3});
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
  const Problem toy(kClients, 12, pull, 0.1);
  for (const Message& lie : {Message("keys"), Message("masked"), Message("surprise"),
                             Message("keys").with("keys", tensor_of(Bytes(63))),
                             Message("keys").with("keys", tensor_of(Bytes(64)))}) {
    Game game = masked_game(toy);
    game.lies = {{2, lie}};
    const Played played = play(game);
    INFO(lie.kind);
    REQUIRE(played.error.empty());
    CHECK(played.reports[0].rejected == 1);
    CHECK(played.last() == expected(game, all_but(kClients, {2})));
  }
  // Two that share a key are two liars.
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
  game.plan.rounds = 2;
  game.plan.secure.levels = 60'000;  // of the 19 bits, sums take 480,000 values
  const auto how = GENERATE(as<std::string>{}, "a value", "the loss", "the weight", "unmask");
  INFO(how);
  std::mutex mutex;
  std::map<PeerId, int> unmasked;
  int rounds = 0;
  game.tamper = [&](PeerId id, Message& answer) {
    const std::scoped_lock lock(mutex);
    const bool first = answer.kind == "unmask" && unmasked[id]++ == 0;
    if (how == "unmask" && first && id < 5) answer = Message(kFailed).with("reason", "gone");
    if (how == "unmask" || answer.kind != "masked" || id != 2 || rounds++ > 0) return;
    const MaskedForm form(game.plan, 1);
    const std::size_t count = form.count(12), last = count - 1;
    std::vector<std::uint32_t> words = form.unpack(answer.tensors.at("words").bytes, count);
    const auto shift = [&](std::size_t at, std::uint32_t by) {
      words[at] = (words[at] + by) & ((1U << form.bits()) - 1);
    };
    if (how == "a value") shift(3, 270'000);          // beyond clip, from the middle
    if (how == "the loss") shift(last - 1, 470'000);  // beyond 100 nats
    if (how == "the weight") shift(last, (1U << form.bits()) - 479'990);  // of all, it leaves 10
    answer.tensors.at("words") = tensor_of(form.pack(words));
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  Game game = masked_game(toy);
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
  const Problem toy(kClients, 12, pull, 0.1);
  const auto bad = GENERATE(as<std::string>{}, "short", "long", "no words", "failed");
  INFO(bad);
  Game game = masked_game(toy);
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

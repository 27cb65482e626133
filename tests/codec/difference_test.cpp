#include "codec/difference.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "codec/chains.hpp"
#include "codec/quadratics.hpp"

using namespace fedctl;
using codec::Difference;

namespace {

std::unique_ptr<codec::Codec> top(std::size_t kept, std::size_t count) {
  const double ratio = static_cast<double>(kept) / static_cast<double>(count);
  return test::Chain{"", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", ratio}})}}.make(
      {count});
}

// One client and the server's memory of it.
struct Pair {
  Difference sender, receiver;
  Rng rng{0};

  Pair(std::size_t kept, std::size_t count, double eta)
      : sender(top(kept, count), count, eta), receiver(top(kept, count), count, eta) {}

  std::vector<float> receive(const Bytes& bytes, std::size_t count) {
    std::vector<float> out(count);
    receiver.decode(bytes, out);
    receiver.received(bytes, out);
    return out;
  }
  std::vector<float> pass(const std::vector<float>& values) {
    sender.synchronise(receiver.stamp());
    return receive(sender.encode(values, rng), values.size());
  }
};

}  // namespace

TEST_CASE("ef21 sends the change and both sides add it up", "[codec][difference]") {
  Pair pair(1, 3, 0);
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 0, 0});
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 3, 0});
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 3, -2});
  CHECK(pair.pass({4, 5, -2}) == std::vector<float>{4, 5, -2});
}

TEST_CASE("econtrol: what was decoded plus the error is what was given", "[codec][difference]") {
  const std::size_t count = 40;
  for (const double eta : {Difference::kMeasured, 0.05}) {
    Pair pair(4, count, eta);
    Rng rng(3);
    std::vector<double> given(count), decoded(count);
    for (int round = 0; round < 50; ++round) {
      std::vector<float> values(count);
      for (float& value : values) value = static_cast<float>(rng.normal());
      const auto out = pair.pass(values);
      for (std::size_t i = 0; i < count; ++i) {
        given[i] += values[i];
        decoded[i] += out[i];
      }
    }
    const auto state = pair.sender.state();
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(decoded[i] + state[2 + count + i] == Approx(given[i]).margin(1e-3));
    }
  }
}

TEST_CASE("econtrol without gain sends what ef21 sends", "[codec][difference]") {
  Pair plain(2, 20, 0), other(2, 20, 1e-30);
  Rng rng(4);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> values(20);
    for (float& value : values) value = static_cast<float>(rng.normal());
    CHECK(plain.pass(values) == other.pass(values));
  }
}

TEST_CASE("a message that was lost is taken back", "[codec][difference]") {
  Pair pair(1, 3, 0);
  pair.pass({4, 3, -2});
  pair.sender.synchronise(pair.receiver.stamp());
  pair.sender.encode(std::vector<float>{4, 3, -2}, pair.rng);  // never arrives
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 3, 0});
}

TEST_CASE("a side that lost its memory begins anew", "[codec][difference]") {
  Pair pair(1, 3, 0);
  pair.pass({4, 3, -2});
  pair.pass({4, 3, -2});
  SECTION("the receiver") { pair.receiver = Difference(top(1, 3), 3, 0); }
  SECTION("the sender") { pair.sender = Difference(top(1, 3), 3, 0); }
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 0, 0});
  CHECK(pair.pass({4, 3, -2}) == std::vector<float>{4, 3, 0});
}

TEST_CASE("a client that returns after 30 rounds catches up", "[codec][difference]") {
  constexpr std::size_t kCount = 4096;
  const auto chain = [] {
    return test::Chain{"", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", 0.1}})}, "ef21"}
        .make({kCount});
  };
  Rng rng(8), seed(9);
  std::vector<float> weights(kCount), out(kCount);
  // The server's memory of each of two clients, and theirs.
  std::vector<std::unique_ptr<codec::Codec>> senders, receivers;
  for (int client = 0; client < 2; ++client) {
    senders.push_back(chain());
    receivers.push_back(chain());
  }
  std::vector<double> distance(2);
  std::vector<std::size_t> bytes(2);
  const auto send = [&](std::size_t client) {
    senders[client]->synchronise(receivers[client]->stamp());
    const Bytes encoded = senders[client]->encode(weights, seed);
    bytes[client] = encoded.size();
    receivers[client]->decode(encoded, out);
    receivers[client]->received(encoded, out);
    distance[client] = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
      distance[client] += std::pow(out[i] - weights[i], 2);
    }
  };
  for (int round = 0; round < 100; ++round) {
    for (float& weight : weights) weight += 0.01F * static_cast<float>(rng.normal());
    send(0);
    if (round == 0 || round >= 31) send(1);
    if (round == 31) {
      CHECK(bytes[1] == Approx(bytes[0]).epsilon(0.02));  // no more than anybody's
      CHECK(distance[1] > 2 * distance[0]);
    }
  }
  CHECK(distance[1] == Approx(distance[0]).epsilon(0.05));
}

TEST_CASE("the difference to what the receiver does not have is refused", "[codec][difference]") {
  Pair pair(1, 3, 0);
  pair.pass({4, 3, -2});
  pair.sender.synchronise(pair.receiver.stamp());
  pair.sender.encode(std::vector<float>{4, 3, -2}, pair.rng);  // never arrives
  const Bytes next = pair.sender.encode(std::vector<float>{4, 3, -2}, pair.rng);
  std::vector<float> out(3);
  CHECK_THROWS_WITH(pair.receiver.decode(next, out), Catch::Contains("the difference to state"));
  CHECK_THROWS_AS(pair.receiver.decode(ByteView(next).first(3), out), WireError);
}

TEST_CASE("a saved state of another codec is refused", "[codec][difference]") {
  Difference codec(top(1, 3), 3, 0);
  for (const std::vector<float>& bad : std::vector<std::vector<float>>{{},
                                                                       {1, 0, 0, 0},
                                                                       {-1, 0, 0, 0, 0},
                                                                       {0.5, 0, 0, 0, 0},
                                                                       {1, 2, 0, 0, 0},
                                                                       {1, 0, NAN, 0, 0}}) {
    CHECK_THROWS_AS(codec.restore(bad), WireError);
  }
}

// In double the sheet has 0.73 without feedback, 1.43 with a residual, 1.5e-16 with ef21.
TEST_CASE("unequal clients stall a residual, not the difference", "[codec][difference]") {
  const std::vector<config::Plugin> top4 = {
      test::plugin(codec::codec_kinds(), "topk", {{"ratio", 4.0 / 64}})};
  CHECK(test::distance_to_dense(top4, "none") > 0.3);
  CHECK(test::distance_to_dense(top4, "ef14") > 0.7);
  CHECK(test::distance_to_dense(top4, "ef21") < 1e-6);
  CHECK(test::distance_to_dense(top4, "econtrol") < 1e-6);
}

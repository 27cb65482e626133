#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

test::Chain topk_with_ef14(double ratio) {
  return {"", {test::plugin(codec::codec_kinds(), "topk", {{"ratio", ratio}})}, "ef14"};
}

}  // namespace

TEST_CASE("ef14 keeps what was lost and sends it later", "[codec][ef14]") {
  const auto codec = topk_with_ef14(1e-9).make({3});  // one value a message
  Rng rng(0);
  std::vector<float> out(3);
  codec->decode(codec->encode(std::vector<float>{4, 3, -2}, rng), out);
  CHECK(out == std::vector<float>{4, 0, 0});
  CHECK(codec->state() == std::vector<float>{0, 3, -2});
  codec->decode(codec->encode(std::vector<float>{1, 3, -2}, rng), out);
  CHECK(out == std::vector<float>{0, 6, 0});
  CHECK(codec->state() == std::vector<float>{1, 0, -4});
  codec->decode(codec->encode(std::vector<float>{1, 0, 0}, rng), out);
  CHECK(out == std::vector<float>{0, 0, -4});
  CHECK(codec->state() == std::vector<float>{2, 0, 0});
}

TEST_CASE("what ef14 has sent is the sum of its inputs less the residual",
          "[codec][ef14][property]") {
  for (const test::Chain& chain : test::all_chains()) {
    if (chain.error_feedback != "ef14") continue;
    // An error that may exceed |x| lets the residual grow beyond what floats can tell.
    if (!codec::promises_of(chain.stages).contractive) continue;
    INFO(chain.name);
    const std::size_t count = 60;
    const auto codec = chain.make({count});
    Rng rng(1);
    std::vector<double> given(count), sent(count);
    std::vector<float> values(count), out(count);
    for (int round = 0; round < 200; ++round) {
      for (float& value : values) value = static_cast<float>(rng.normal());
      codec->decode(codec->encode(values, rng), out);
      for (std::size_t i = 0; i < count; ++i) {
        given[i] += values[i];
        sent[i] += out[i];
      }
    }
    const auto residual = codec->state();
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(sent[i] + residual[i] == Approx(given[i]).margin(1e-3));
    }
  }
}

TEST_CASE("with ef14 the mean of what is sent becomes the mean of the input", "[codec][ef14]") {
  const std::size_t count = 40;
  std::vector<float> values(count), out(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = 0.1F + 0.02F * static_cast<float>(i);
  const auto with = topk_with_ef14(0.1).make({count});
  auto plain_chain = topk_with_ef14(0.1);
  plain_chain.error_feedback = "none";
  const auto without = plain_chain.make({count});
  Rng rng(0);
  constexpr int kRounds = 2000;
  std::vector<double> mean(count), plain_mean(count);
  for (int round = 0; round < kRounds; ++round) {
    with->decode(with->encode(values, rng), out);
    for (std::size_t i = 0; i < count; ++i) mean[i] += out[i] / kRounds;
    without->decode(without->encode(values, rng), out);
    for (std::size_t i = 0; i < count; ++i) plain_mean[i] += out[i] / kRounds;
  }
  for (std::size_t i = 0; i < count; ++i) CHECK(mean[i] == Approx(values[i]).margin(0.01));
  CHECK(plain_mean[0] == 0);  // without it the small values never travel
}

TEST_CASE("ef14 refuses a state that is not its own", "[codec][ef14]") {
  const auto codec = topk_with_ef14(0.5).make({4});
  CHECK_THROWS_AS(codec->restore(std::vector<float>{1, 2, 3}), WireError);
  CHECK_THROWS_AS(codec->restore(std::vector<float>{}), WireError);
  CHECK_THROWS_AS(
      codec->restore(std::vector<float>{1, 2, 3, std::numeric_limits<float>::infinity()}),
      WireError);
  CHECK(codec->state() == std::vector<float>{0, 0, 0, 0});
}

TEST_CASE("ef14 takes back a message that was not used", "[codec][ef14]") {
  const auto codec = topk_with_ef14(0.25).make({4});
  Rng rng(1);
  const Bytes first = codec->encode(std::vector<float>{4, 3, 2, 1}, rng);
  CHECK(codec->state() == std::vector<float>{0, 3, 2, 1});
  REQUIRE(codec->takes_back());
  codec->take_back(first);
  CHECK(codec->state() == std::vector<float>{4, 3, 2, 1});
  std::vector<float> decoded(4);
  codec->decode(codec->encode(std::vector<float>{1, 0, 0, 0}, rng), decoded);
  CHECK(decoded == std::vector<float>{5, 0, 0, 0});
  CHECK_THROWS_AS(codec->take_back(Bytes(1)), WireError);
}

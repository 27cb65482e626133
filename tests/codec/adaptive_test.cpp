#include <catch2/catch.hpp>
#include <cmath>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

std::vector<float> normal_values(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

struct Outcome {
  double bits, error;  // a value; share of the squared norm
};

Outcome run(const std::string& option, double target, const std::vector<float>& values) {
  const auto codec =
      test::Chain{"", {test::plugin(codec::codec_kinds(), "auto", {{option, target}})}}.make(
          {values.size()});
  Rng rng(0);
  const Bytes encoded = codec->encode(values, rng);
  std::vector<float> out(values.size());
  codec->decode(encoded, out);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(out[i]) - values[i], 2);
    norm += std::pow(static_cast<double>(values[i]), 2);
  }
  return {8 * static_cast<double>(encoded.size()) / static_cast<double>(values.size()),
          error / norm};
}

}  // namespace

TEST_CASE("auto reaches the sheet's error at every rate", "[codec][auto]") {
  const auto values = normal_values(1 << 18, 1);
  // Exact integrals for the normal distribution: uniform cells, centroids, rANS.
  const std::vector<std::pair<double, double>> table = {{0.34, 0.727}, {0.57, 0.575}, {0.92, 0.384},
                                                        {1, 0.348},    {2, 0.0889},   {3, 0.0222},
                                                        {4, 0.00556}};
  for (const auto& [bits, error] : table) {
    INFO(bits);
    const Outcome outcome = run("bits_per_parameter", bits, values);
    CHECK(outcome.bits == Approx(bits).epsilon(0.02));
    // At the rate that was spent: 6.02 dB a bit above one bit.
    CHECK(outcome.error * std::exp2(2 * (outcome.bits - bits)) == Approx(error).epsilon(0.02));
  }
}

TEST_CASE("a message of auto has the bits it promises, header and tables included",
          "[codec][auto][rate]") {
  constexpr double kLeastBytes = 20;  // of a message with one level that is not 0
  for (const std::size_t count : {64, 256, 1000, 3721, 30000, 40000, 150000}) {
    auto values = normal_values(count, count);
    for (const bool heavy : {false, true}) {
      for (std::size_t i = 0; heavy && i < count; ++i) values[i] *= values[i] * values[i];
      for (const double bits : {0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0}) {
        INFO(count << " values, " << bits << " bits, heavy " << heavy);
        const double wanted = bits * static_cast<double>(count) / 8;
        const Outcome outcome = run("bits_per_parameter", bits, values);
        const double bytes = outcome.bits * static_cast<double>(count) / 8;
        CHECK(bytes <= std::max(1.003 * wanted, kLeastBytes));
        CHECK(bytes >= std::min(0.995 * wanted, wanted - 3));
        CHECK(outcome.error < 1);  // something is said
      }
    }
  }
}

TEST_CASE("auto reaches a wanted error", "[codec][auto]") {
  const auto values = normal_values(1 << 16, 2);
  for (const double wanted : {0.5, 0.1, 0.001}) {
    CHECK(run("distortion", wanted, values).error == Approx(wanted).epsilon(0.03));
  }
}

TEST_CASE("auto spends less on parts that are smaller", "[codec][auto]") {
  auto values = normal_values(1 << 16, 3);
  for (std::size_t i = 0; i < values.size() / 2; ++i) values[i] *= 0.01F;
  const Outcome mixed = run("bits_per_parameter", 1, values);
  // Half of the values hold all of the energy: two bits for each of them.
  CHECK(mixed.error == Approx(0.0889).epsilon(0.05));
}

TEST_CASE("auto at high rates and with outliers", "[codec][auto]") {
  auto values = normal_values(1 << 14, 4);
  CHECK(run("bits_per_parameter", 12, values).error < 2e-7);
  values[7] = 1e6F;
  CHECK(run("bits_per_parameter", 8, values).bits < 8.3);
}

TEST_CASE("auto with lgreco: fewer bytes at no larger sum of the blocks' errors",
          "[codec][auto][lgreco]") {
  // 32 blocks of unlike sizes and magnitudes.
  std::vector<codec::BlockSize> blocks;
  std::vector<float> values;
  for (std::size_t l = 0; l < 32; ++l) {
    const std::size_t count = l % 2 == 0 ? 4096 : 512;
    for (float value : normal_values(count, l)) {
      values.push_back(value * static_cast<float>(std::pow(0.8, static_cast<double>(l))));
    }
    blocks.emplace_back(count);
  }
  struct Result {
    std::size_t bytes = 0;
    double errors = 0;  // sum over the blocks of |x - decoded|
  };
  const auto pass = [&](double bits, double lgreco) {
    const auto codec =
        test::Chain{"",
                    {test::plugin(codec::codec_kinds(), "auto",
                                  {{"bits_per_parameter", bits}, {"lgreco", lgreco}})}}
            .make(blocks);
    Rng rng(0);
    const Bytes encoded = codec->encode(values, rng);
    std::vector<float> out(values.size());
    codec->decode(encoded, out);
    Result result{encoded.size()};
    std::size_t at = 0;
    for (const codec::BlockSize& block : blocks) {
      double squares = 0;
      for (std::size_t end = at + block.count; at < end; ++at) {
        squares += std::pow(out[at] - values[at], 2);
      }
      result.errors += std::sqrt(squares);
    }
    return result;
  };
  for (const double bits : {0.5, 1.0, 2.0}) {
    INFO(bits);
    const Result one = pass(bits, 0), own = pass(bits, 1);
    CHECK(own.bytes < one.bytes);
    // Rounding to buckets, and centroids that the blocks share.
    CHECK(own.errors < one.errors * 1.03);
  }
}

TEST_CASE("auto with lgreco on one block is auto", "[codec][auto][lgreco]") {
  const auto values = normal_values(30000, 9);
  const auto bytes = [&](double lgreco) {
    Rng rng(0);
    return test::Chain{"", {test::plugin(codec::codec_kinds(), "auto", {{"lgreco", lgreco}})}}
        .make({values.size()})
        ->encode(values, rng);
  };
  Bytes expected = {std::byte{4}};
  const Bytes plain = bytes(0);
  expected.insert(expected.end(), plain.begin(), plain.end());
  CHECK(bytes(1) == expected);
}

TEST_CASE("auto with lgreco and ablate is auto", "[codec][auto][lgreco]") {
  auto values = normal_values(4000, 10);
  for (std::size_t i = 0; i < 2000; ++i) values[i] *= 0.01F;
  const auto bytes = [&](double lgreco, double ablate) {
    Rng rng(0);
    const auto kind =
        test::plugin(codec::codec_kinds(), "auto", {{"lgreco", lgreco}, {"ablate", ablate}});
    return test::Chain{"", {kind}}.make({2000, 2000})->encode(values, rng);
  };
  CHECK(bytes(1, 1) == bytes(0, 0));
  CHECK(bytes(1, 0) != bytes(0, 0));
}

TEST_CASE("auto: zeros take four bytes", "[codec][auto]") {
  Rng rng(0);
  const auto codec = test::Chain{"", {test::plugin(codec::codec_kinds(), "auto")}}.make({1000});
  CHECK(codec->encode(std::vector<float>(1000), rng) == Bytes(4));
}

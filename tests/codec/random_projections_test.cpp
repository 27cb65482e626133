// randk, rotate and randk (SRHT), countsketch: what a seed chooses.
#include <catch2/catch.hpp>
#include <cmath>

#include "codec/gaussian.hpp"

using namespace fedctl;

namespace {

test::Chain chain(std::initializer_list<config::Plugin> stages) { return {"", stages}; }
config::Plugin stage(const char* name, std::map<std::string, double> options = {}) {
  return test::plugin(codec::codec_kinds(), name, std::move(options));
}

std::vector<float> normal(std::size_t count) {
  Rng rng(3);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

struct Spread {
  double variance = 0;  // E |decoded - x|^2 / |x|^2
  double bias = 0;      // |mean of decoded - x|^2 / |x|^2
};
Spread spread(const test::Chain& chain, std::span<const float> values, int rounds) {
  const auto codec = chain.make({values.size()});
  Rng rng(4);
  std::vector<double> mean(values.size());
  std::vector<float> out(values.size());
  double error = 0, norm = 0, bias = 0;
  for (int round = 0; round < rounds; ++round) {
    codec->decode(codec->encode(values, rng), out);
    for (std::size_t i = 0; i < out.size(); ++i) {
      error += std::pow(static_cast<double>(out[i]) - values[i], 2) / rounds;
      mean[i] += static_cast<double>(out[i]) / rounds;
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    norm += std::pow(static_cast<double>(values[i]), 2);
    bias += std::pow(mean[i] - values[i], 2);
  }
  return {error / norm, bias / norm};
}

}  // namespace

TEST_CASE("random projections have the variance of the literature and no bias",
          "[codec][randk][countsketch]") {
  const std::vector<float> values = normal(1024);
  struct Case {
    const char* name;
    test::Chain chain;
    double variance;
  };
  for (const Case& each :
       {Case{"randk", chain({stage("randk", {{"ratio", 0.25}})}), 3},
        Case{"SRHT", chain({stage("rotate"), stage("randk", {{"ratio", 0.25}})}), 3},
        Case{"countsketch", chain({stage("countsketch", {{"ratio", 0.25}})}), 1023.0 / 256}}) {
    INFO(each.name);
    const Spread measured = spread(each.chain, values, 2000);
    CHECK(measured.variance == Approx(each.variance).epsilon(0.05));
    CHECK(measured.bias == Approx(each.variance / 2000).epsilon(0.15));
  }
}

TEST_CASE("randk without its factor loses the share that it drops", "[codec][randk]") {
  const auto measured =
      spread(chain({stage("randk", {{"ratio", 0.25}, {"unbiased", 0}})}), normal(1024), 500);
  CHECK(measured.variance == Approx(0.75).epsilon(0.02));
}

TEST_CASE("SRHT of as many values as there are is exact", "[codec][randk]") {
  const std::vector<float> values = normal(3000);
  const auto codec = chain({stage("rotate"), stage("randk", {{"ratio", 1}})}).make({3000});
  Rng rng(1);
  std::vector<float> out(3000);
  codec->decode(codec->encode(values, rng), out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(out[i] == Approx(values[i]).margin(1e-6 * std::sqrt(3000.0)));
  }
}

TEST_CASE("a sketch takes its seed and its values, whatever the length", "[codec][countsketch]") {
  for (const std::size_t count : {256, 257, 100'000}) {
    Rng rng(1);
    const auto values = normal(count);
    const auto bytes = [&](const char* name) {
      return chain({stage(name, {{"ratio", 0.125}})}).make({count})->encode(values, rng).size();
    };
    CHECK(bytes("countsketch") ==
          8 + 4 * static_cast<std::size_t>(std::lround(static_cast<double>(count) * 0.125)));
    CHECK(bytes("randk") == bytes("countsketch"));
  }
}

TEST_CASE("sketches of one seed add", "[codec][countsketch][randk]") {
  for (const char* name : {"countsketch", "randk"}) {
    INFO(name);
    const auto codec = chain({stage(name)}).make({500});
    const auto decoded = [&](std::span<const float> values) {
      Rng rng(9);
      std::vector<float> out(500);
      codec->decode(codec->encode(values, rng), out);
      return out;
    };
    std::vector<float> one = normal(500), other(500), sum(500);
    for (std::size_t i = 0; i < 500; ++i) other[i] = one[499 - i] * 3;
    for (std::size_t i = 0; i < 500; ++i) sum[i] = one[i] + other[i];
    const auto a = decoded(one), b = decoded(other), both = decoded(sum);
    for (std::size_t i = 0; i < 500; ++i) CHECK(both[i] == Approx(a[i] + b[i]).margin(1e-4));
  }
}

// kmeans and sparseloco: quantizers whose values follow from the data.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "codec/detail/lloyd.hpp"
#include "codec/gaussian.hpp"

using namespace fedctl;
using test::bytes_of;

namespace {

config::Plugin stage(const char* name, std::map<std::string, double> options = {}) {
  return test::plugin(codec::codec_kinds(), name, std::move(options));
}

std::vector<float> sorted_values(std::size_t count, std::uint64_t seed, double power) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const double normal = rng.normal();
    value = static_cast<float>(std::copysign(std::pow(std::abs(normal), power), normal));
  }
  std::sort(values.begin(), values.end());
  return values;
}

double squared_error(std::span<const float> sorted, std::span<const float> centroids) {
  double error = 0;
  for (const float value : sorted) {
    error += std::pow(
        static_cast<double>(value) - centroids[codec::detail::nearest(centroids, value)], 2);
  }
  return error;
}

}  // namespace

TEST_CASE("a pass of Lloyd's never raises the error", "[codec][kmeans][property]") {
  for (const double power : {1.0, 3.0}) {
    const auto values = sorted_values(3000, 5, power);
    auto centroids = codec::detail::quantiles(values, 8);
    double before = squared_error(values, centroids);
    for (int pass = 0; pass < 30; ++pass) {
      centroids = codec::detail::lloyd(values, std::move(centroids), 1);
      REQUIRE(std::is_sorted(centroids.begin(), centroids.end()));
      const double after = squared_error(values, centroids);
      CHECK(after <= before * (1 + 1e-6));
      before = after;
    }
    // FedZip's start: equal steps between the extremes.
    std::vector<float> equal;
    for (int j = 0; j < 8; ++j) {
      const float share = static_cast<float>(j) / 7;
      equal.push_back(values.front() + share * (values.back() - values.front()));
    }
    CHECK(before < squared_error(values, equal));
  }
}

TEST_CASE("as many clusters as different values lose nothing", "[codec][kmeans]") {
  const std::vector<float> values = {-2, 0.5F, 3, -2, 3, 3, 0.5F, -2, -2, 0.5F};
  const auto codec = test::Chain{"", {stage("kmeans", {{"clusters", 3}})}}.make({10});
  Rng rng(1);
  std::vector<float> out(10);
  codec->decode(codec->encode(values, rng), out);
  CHECK(out == values);
}

TEST_CASE("kmeans has these bytes", "[codec][kmeans]") {
  // Centroids -1 and 2; clusters 0, 1, 1.
  const auto codec = test::Chain{"", {stage("kmeans", {{"clusters", 2}})}}.make({3});
  Rng rng(1);
  CHECK(codec->encode(std::vector<float>{-1, 2, 2}, rng) ==
        bytes_of({0, 0, 0x80, 0xbf, 0, 0, 0, 0x40, 0b110}));
  std::vector<float> out(3);
  CHECK_THROWS_AS(codec->decode(bytes_of({0, 0, 0, 0x40, 0, 0, 0x80, 0xbf, 0b110}), out),
                  WireError);
  // Magnitude 2, signs - + -.
  const auto both =
      test::Chain{"", {stage("kmeans", {{"clusters", 2}, {"symmetric", 1}})}}.make({3});
  CHECK(both->encode(std::vector<float>{-2, 2, -2}, rng) == bytes_of({0, 0, 0, 0x40, 0b010}));
  CHECK_THROWS_AS(both->decode(bytes_of({0, 0, 0, 0xc0, 0b010}), out), WireError);
}

TEST_CASE("clusters of magnitudes are an even number", "[codec][kmeans]") {
  CHECK_THROWS_WITH(
      (test::Chain{"", {stage("kmeans", {{"clusters", 5}, {"symmetric", 1}})}}.make({3})),
      Catch::Contains("clusters is 5"));
}

TEST_CASE("behind topk in chunks, the values have the errors of the literature",
          "[codec][kmeans][sparseloco]") {
  const config::Plugin topk = stage("topk", {{"chunk", 4096}, {"ratio", 0.015625}});
  const auto nmse = [&](const config::Plugin& values) {
    return test::gaussian_run({"", {topk, values}}).nmse;
  };
  CHECK(nmse(stage("sparseloco")) == Approx(0.8822).epsilon(0.002));
  CHECK(nmse(stage("sign")) == Approx(0.8822).epsilon(0.002));
  CHECK(nmse(stage("kmeans", {{"clusters", 4}, {"symmetric", 1}})) ==
        Approx(0.8813).epsilon(0.002));
  CHECK(nmse(stage("kmeans", {{"clusters", 4}})) == Approx(0.8813).epsilon(0.002));
  CHECK(test::gaussian_run({"", {topk}}).nmse == Approx(0.8807).epsilon(0.002));
}

TEST_CASE("sparseloco has the levels of its code", "[codec][sparseloco]") {
  // Mean 0, standard deviation 2, steps of 3: -4, -1, 1, 4 / 3 + 2.5, rounded down, is 1, 2, 2, 3.
  const std::vector<float> values = {-4, -1, 1, 4, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 0, 0};
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  const double step = 1.5 * std::sqrt(squares / 16);
  REQUIRE(std::floor(-4 / step + 2.5) == 0);
  REQUIRE(std::floor(4 / step + 2.5) == 4);
  const auto codec = test::Chain{"", {stage("sparseloco")}}.make({16});
  Rng rng(1);
  std::vector<float> out(16);
  codec->decode(codec->encode(values, rng), out);
  const std::vector<float> expected = {-4, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  CHECK(out == expected);
}

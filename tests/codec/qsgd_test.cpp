// qsgd and natural: unbiased rounding.
#include <catch2/catch.hpp>
#include <cmath>

#include "codec/gaussian.hpp"

using namespace fedctl;

namespace {

test::Chain natural() { return {"natural", {test::plugin(codec::codec_kinds(), "natural")}}; }
test::Chain qsgd(double levels, double bucket) {
  return {"qsgd",
          {test::plugin(codec::codec_kinds(), "qsgd", {{"levels", levels}, {"bucket", bucket}})}};
}

}  // namespace

// Powers of two stay as they are: exponents 127, 128, 125, 0; signs 0 1 0 0, -0 has none.
TEST_CASE("natural writes the bytes computed by hand", "[codec][natural][golden]") {
  const std::vector<float> values = {1, -2, 0.25F, -0.0F};
  Rng rng(0);
  const auto bytes = test::bytes_of({0x7f, 0x80, 0x7d, 0x00, 0x02});
  CHECK(natural().make({4})->encode(values, rng) == bytes);
  std::vector<float> out(4);
  natural().make({4})->decode(bytes, out);
  CHECK(out == std::vector<float>{1, -2, 0.25F, 0});
}

TEST_CASE("natural refuses what it cannot have written", "[codec][natural]") {
  std::vector<float> out(1);
  CHECK_THROWS_AS(natural().make({1})->decode(test::bytes_of({0xff, 0}), out), WireError);
  CHECK_THROWS_AS(natural().make({1})->decode(test::bytes_of({0, 1}), out), WireError);
  CHECK_THROWS_AS(natural().make({1})->decode(test::bytes_of({0x7f, 2}), out), WireError);
}

// For a mantissa m in [1, 2) the variance is (m - 1)(2 - m), at most m^2 / 8.
TEST_CASE("natural stays within a variance of 1/8", "[codec][natural]") {
  const test::GaussianRun run = test::gaussian_run(natural());
  CHECK(run.nmse <= 0.125);
  CHECK(run.nmse >= 0.05);
  CHECK(run.bits == 9);
}

// Buckets (3, 4) and (-8): norms 5 and 8. With 5 levels 3, 4 are levels exactly, -8 is -5:
// codes 8, 9, 0 in four bits.
TEST_CASE("qsgd writes the bytes computed by hand", "[codec][qsgd][golden]") {
  const std::vector<float> values = {3, 4, -8};
  Rng rng(0);
  const auto bytes = test::bytes_of({0, 0, 0xa0, 0x40, 0, 0, 0, 0x41, 0x98, 0x00});
  CHECK(qsgd(5, 2).make({3})->encode(values, rng) == bytes);
  std::vector<float> out(3);
  qsgd(5, 2).make({3})->decode(bytes, out);
  CHECK(out[0] == Approx(3));
  CHECK(out[1] == Approx(4));
  CHECK(out[2] == -8);
}

TEST_CASE("qsgd refuses what it cannot have written", "[codec][qsgd]") {
  std::vector<float> out(1);
  const auto codec = qsgd(5, 2).make({1});
  CHECK_THROWS_AS(codec->decode(test::bytes_of({0, 0, 0xa0, 0x40, 11}), out), WireError);
  CHECK_THROWS_AS(codec->decode(test::bytes_of({0, 0, 0, 0, 6}), out), WireError);
  CHECK_THROWS_AS(codec->decode(test::bytes_of({0, 0, 0xa0, 0xc0, 6}), out), WireError);
}

TEST_CASE("qsgd stays within its variance bound", "[codec][qsgd]") {
  for (const double levels : {1.0, 15.0, 64.0}) {
    const double bound = std::min(512 / (levels * levels), std::sqrt(512) / levels);
    INFO(levels << " levels");
    CHECK(test::gaussian_run(qsgd(levels, 512)).nmse <= bound * 1.02);
  }
}

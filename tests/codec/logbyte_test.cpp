#include <catch2/catch.hpp>
#include <cmath>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

std::unique_ptr<codec::Codec> logbyte(std::size_t count) {
  return test::Chain{"logbyte", {test::plugin(codec::codec_kinds(), "logbyte")}}.make({count});
}

}  // namespace

TEST_CASE("logbyte: every code, from its definition", "[codec][logbyte][golden]") {
  const auto codec = logbyte(1);
  for (unsigned code = 0; code < 256; ++code) {
    const auto byte = static_cast<std::byte>(code);
    float value = 0;
    if (code == 0x80) {
      CHECK_THROWS_AS(codec->decode({&byte, 1}, {&value, 1}), WireError);
      continue;
    }
    codec->decode({&byte, 1}, {&value, 1});
    const double magnitude = code % 128 == 0 ? 0 : std::exp((code % 128 - 64.0) / 8);
    CHECK(std::abs(value) == static_cast<float>(magnitude));
    CHECK(std::signbit(value) == (code > 0x80));
    Rng rng(code);
    CHECK(codec->encode({&value, 1}, rng) == Bytes{byte});  // as it came, whatever is drawn
  }
}

TEST_CASE("logbyte: error, mean, and what is beyond its range", "[codec][logbyte]") {
  constexpr std::size_t kDraws = 100'000;
  const auto codec = logbyte(kDraws);
  std::vector<float> out(kDraws);
  Rng rng(5);
  for (const float value : {3.9e-4F, 0.01F, -0.37F, 1.05F, -77.0F, 2600.0F}) {
    INFO(value);
    codec->decode(codec->encode(std::vector<float>(kDraws, value), rng), out);
    double mean = 0, square = 0, worst = 0;
    for (const float read : out) {
      mean += read / double{kDraws};
      square += double{read} * read / double{kDraws};
      worst = std::max(worst, std::abs(double{read} - value) / std::abs(value));
    }
    CHECK(worst <= std::exp(0.125) - 1 + 1e-6);
    const double deviation = std::sqrt(std::max(0.0, square - mean * mean) / kDraws);
    CHECK(std::abs(mean - value) <= 3.5 * deviation + 1e-7 * std::abs(value));
  }
  // Below the smallest magnitude it is that one or 0, right on average; above the largest that one.
  codec->decode(codec->encode(std::vector<float>(kDraws, -1e-4F), rng), out);
  double mean = 0;
  for (const float read : out) mean += read / double{kDraws};
  CHECK(mean == Approx(-1e-4).epsilon(0.02));
  codec->decode(codec->encode(std::vector<float>(kDraws, 1e9F), rng), out);
  CHECK(out[0] == Approx(std::exp(63.0 / 8)));
}

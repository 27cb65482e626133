#include <catch2/catch.hpp>
#include <cmath>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

const config::Kinds& kinds() { return codec::codec_kinds(); }

// The share of |x|^2 that is lost on 2^16 normally distributed values, and the bits a value.
std::pair<double, double> lost(const std::vector<config::Plugin>& stages) {
  Rng rng(1);
  std::vector<float> values(1 << 16), out(values.size());
  for (float& value : values) value = static_cast<float>(rng.normal());
  const auto codec = test::Chain{"", stages}.make({values.size()});
  const Bytes encoded = codec->encode(values, rng);
  codec->decode(encoded, out);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(out[i]) - values[i], 2);
    norm += std::pow(static_cast<double>(values[i]), 2);
  }
  return {error / norm, 8 * static_cast<double>(encoded.size()) / static_cast<double>(out.size())};
}

Bytes bytes_of(const std::vector<unsigned>& numbers) {
  Bytes bytes;
  for (const unsigned number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

}  // namespace

TEST_CASE("sign: bytes by hand", "[codec][sign][golden]") {
  Rng rng(0);
  const std::vector<float> values = {1, -2, 0, 3, -4};
  const auto codec = test::Chain{"", {test::plugin(kinds(), "sign")}}.make({3, 2});
  // Scales 1 and 3.5; not below 0 at 0, 2 and 3.
  const Bytes expected = bytes_of({0, 0, 0x80, 0x3f, 0, 0, 0x60, 0x40, 0x0d});
  CHECK(codec->encode(values, rng) == expected);
  std::vector<float> out(5);
  codec->decode(expected, out);
  CHECK(out == std::vector<float>{1, -1, 1, 3.5, -3.5});
}

TEST_CASE("sign loses what its formulas say", "[codec][sign]") {
  CHECK(lost({test::plugin(kinds(), "sign")}).first == Approx(0.3634).epsilon(0.02));
  CHECK(lost({test::plugin(kinds(), "sign", {{"rms", 1}})}).first == Approx(0.4042).epsilon(0.02));
}

TEST_CASE("topk and sign are a ternary code", "[codec][sign][topk]") {
  const std::vector<std::pair<double, double>> table = {
      {0.01, 0.9164}, {0.05, 0.7267}, {0.1, 0.5745}, {0.2, 0.3840}, {0.5, 0.1921}};
  for (const auto& [kept, error] : table) {
    INFO(kept);
    const auto [share, bits] =
        lost({test::plugin(kinds(), "topk", {{"ratio", kept}}), test::plugin(kinds(), "sign")});
    CHECK(share == Approx(error).epsilon(0.02));
    const double entropy = -kept * std::log2(kept / 2) - (1 - kept) * std::log2(1 - kept);
    CHECK(bits > entropy);
    CHECK(bits < entropy * 1.025 + 0.001);
  }
}

TEST_CASE("e3m0: bytes by hand and its error", "[codec][e3m0][golden]") {
  Rng rng(0);
  const std::vector<float> values = {16, -8, 0.2F, 0, -0.1F};
  const auto codec = test::Chain{"", {test::plugin(kinds(), "e3m0")}}.make({5});
  // Shares 1, 1/2, 1/80, 0, 1/160 of 16: magnitudes 7, 6, 1 (from 1/128), 0, 0.
  const Bytes expected = bytes_of({0, 0, 0x80, 0x41, 0x1e, 0x78, 0x07});
  CHECK(codec->encode(values, rng) == expected);
  std::vector<float> out(5);
  codec->decode(expected, out);
  CHECK(out == std::vector<float>{16, -8, 0.25F, 0, 0});
  CHECK(lost({test::plugin(kinds(), "e3m0")}).first == Approx(0.038).margin(0.002));
  CHECK_THROWS_AS(codec->decode(bytes_of({0, 0, 0x80, 0x41, 0xff, 0x78, 0x07}), out), WireError);
}

TEST_CASE("bfloat16: bytes by hand", "[codec][bfloat16][golden]") {
  Rng rng(0);
  // 1 + 2^-8 is half way and goes to even, 1 + 3 * 2^-8 goes up.
  const std::vector<float> values = {1, 1.00390625F, 1.01171875F, -0.0F, 3.4028235e38F};
  const auto codec = test::Chain{"", {test::plugin(kinds(), "bfloat16")}}.make({5});
  const Bytes expected = bytes_of({0x80, 0x3f, 0x80, 0x3f, 0x82, 0x3f, 0, 0x80, 0x7f, 0x7f});
  CHECK(codec->encode(values, rng) == expected);
}

TEST_CASE("rans makes quantized values as short as their entropy", "[codec][rans]") {
  // 2.047 + log2(127 / max |x|), and max |x| is near 4.2.
  CHECK(lost({test::plugin(kinds(), "quantize"), test::plugin(kinds(), "rans")}).second ==
        Approx(6.95).margin(0.1));
  CHECK(lost({test::plugin(kinds(), "e3m0"), test::plugin(kinds(), "rans")}).second ==
        Approx(3.4).margin(0.1));
}

// SparseLoCo's setting. Rice's code takes 7.50 bits a position, the sign one.
TEST_CASE("topk in chunks of 4096 and sign take 0.133 bit a value", "[codec][topk]") {
  const auto [share, bits] =
      lost({test::plugin(kinds(), "topk", {{"ratio", 64.0 / 4096}, {"chunk", 4096}}),
            test::plugin(kinds(), "sign")});
  CHECK(share == Approx(0.8822).epsilon(0.01));
  CHECK(bits < 0.134);
  CHECK(bits > (471.3 + 64) / 4096);
}

TEST_CASE("topk in chunks: bytes by hand", "[codec][topk][golden]") {
  Rng rng(0);
  // Chunks 0-3, 4-7, 8: one value each, at 2, 4 and 8. Gaps 2, 0, 0; r = 0.
  const std::vector<float> values = {1, 0, -2, 1, 3, 2, 0, 0, 0.5F};
  const auto codec = test::Chain{"",
                                 {test::plugin(kinds(), "topk", {{"ratio", 0.25}, {"chunk", 4}}),
                                  test::plugin(kinds(), "bfloat16")}}
                         .make({9});
  const Bytes expected = bytes_of({0, 0x03, 0x00, 0xc0, 0x40, 0x40, 0x00, 0x3f});
  CHECK(codec->encode(values, rng) == expected);
  std::vector<float> out(9);
  codec->decode(expected, out);
  CHECK(out == std::vector<float>{0, 0, -2, 0, 3, 0, 0, 0, 0.5F});
}

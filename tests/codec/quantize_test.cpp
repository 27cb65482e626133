#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

std::unique_ptr<codec::Codec> quantize(int bits, std::vector<codec::BlockSize> blocks) {
  return test::Chain{"quantize", {test::plugin(codec::codec_kinds(), "quantize", {{"bits", bits}})}}
      .make(std::move(blocks));
}
Bytes bytes_of(std::initializer_list<int> numbers) {
  Bytes bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

}  // namespace

TEST_CASE("quantize writes scales, then codes from the lowest bit", "[codec][quantize][golden]") {
  Rng rng(1);
  // Two bits: L = 1, codes 0, 1, 2 for -s, 0, s. Blocks {1, -1, 0} and {0.5, 0.5}.
  // Codes 2 0 1 | 2 2: bits (lowest first) 01 00 10 01 | 01 -> 0b10010010, 0b10.
  const std::vector<float> values = {1, -1, 0, 0.5F, 0.5F};
  const Bytes expected = bytes_of({0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f, 0x92, 0x02});
  CHECK(quantize(2, {3, 2})->encode(values, rng) == expected);
  // Values at the ends and at 0 need no luck, whatever the width.
  std::vector<float> out(5);
  for (int bits = 2; bits <= 8; ++bits) {
    const auto codec = quantize(bits, {3, 2});
    codec->decode(codec->encode(values, rng), out);
    CHECK(out == values);
  }
}

TEST_CASE("quantize takes 4 * blocks + ceil(count * bits / 8) bytes", "[codec][quantize]") {
  Rng rng(2);
  for (std::size_t bits = 2; bits <= 8; ++bits) {
    for (const std::size_t count : std::vector<std::size_t>{1, 2, 7, 8, 9, 511, 512, 513, 1500}) {
      const std::vector<float> values(count, -0.25F);
      const auto one = quantize(static_cast<int>(bits), {count});
      CHECK(one->encode(values, rng).size() == 4 + (count * bits + 7) / 8);
      const auto three = quantize(static_cast<int>(bits), {1, 0, count - 1});
      const std::size_t scales = count == 1 ? 1 : 2;  // a block without values has no scale
      CHECK(three->encode(values, rng).size() == 4 * scales + (count * bits + 7) / 8);
    }
  }
}

TEST_CASE("quantize is off by less than one level", "[codec][quantize][property]") {
  Rng rng(3);
  std::vector<float> values(3000), out(3000);
  for (float& value : values) value = static_cast<float>(rng.normal());
  float scale = 0;
  for (const float value : values) scale = std::max(scale, std::abs(value));
  for (int bits = 2; bits <= 8; ++bits) {
    const auto codec = quantize(bits, {3000});
    const float level = scale / static_cast<float>((1 << (bits - 1)) - 1);
    codec->decode(codec->encode(values, rng), out);
    for (std::size_t i = 0; i < values.size(); ++i) {
      REQUIRE(std::abs(out[i] - values[i]) < level * 1.00001F);
      REQUIRE(out[i] * values[i] >= 0);
    }
  }
}

TEST_CASE("quantize rounds up as often as the remainder says", "[codec][quantize]") {
  // One end to set the scale, 100,000 values a quarter of a level above 0.
  const std::size_t count = 100'001;
  for (const int bits : {2, 4, 8}) {
    const float level_max = static_cast<float>((1 << (bits - 1)) - 1);
    std::vector<float> values(count, 0.25F / level_max), out(count);
    values[0] = 1;
    Rng rng(4);
    const auto codec = quantize(bits, {count});
    codec->decode(codec->encode(values, rng), out);
    const auto ups = std::count(out.begin() + 1, out.end(), 1 / level_max);
    // Binomial(100000, 1/4): standard deviation 137.
    CHECK(ups == Approx(25'000).margin(5 * 137));
    CHECK(std::count(out.begin() + 1, out.end(), 0.0F) == 100'000 - ups);
  }
}

TEST_CASE("quantize refuses what it cannot have written", "[codec][quantize]") {
  std::vector<float> out(3);
  const auto codec = quantize(2, {3});
  codec->decode(bytes_of({0, 0, 0x80, 0x3f, 0b010010}), out);  // 2, 0, 1
  CHECK(out == std::vector<float>{1, -1, 0});
  const std::vector<std::pair<const char*, Bytes>> refused = {
      {"the unused code 3", bytes_of({0, 0, 0x80, 0x3f, 0b010011})},
      {"padding bits", bytes_of({0, 0, 0x80, 0x3f, 0b1010010})},
      {"a negative scale", bytes_of({0, 0, 0x80, 0xbf, 0b010010})},
      {"a scale of -0", bytes_of({0, 0, 0, 0x80, 0b010101})},
      {"an infinite scale", bytes_of({0, 0, 0x80, 0x7f, 0b010010})},
      {"a scale that is no number", bytes_of({0, 0, 0xc0, 0x7f, 0b010010})},
      {"levels without a scale", bytes_of({0, 0, 0, 0, 0b010010})},
      {"a scale that no value has", bytes_of({0, 0, 0x80, 0x3f, 0b010101})},
      {"a byte too many", bytes_of({0, 0, 0x80, 0x3f, 0b010010, 0})},
      {"a byte too few", bytes_of({0, 0, 0x80, 0x3f})}};
  for (const auto& [what, bytes] : refused) {
    INFO(what);
    CHECK_THROWS_AS(codec->decode(bytes, out), WireError);
  }
  codec->decode(bytes_of({0, 0, 0, 0, 0b010101}), out);
  CHECK(out == std::vector<float>{0, 0, 0});
}

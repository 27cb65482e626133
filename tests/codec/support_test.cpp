// threshold and masked: supports that the values decide.
#include <catch2/catch.hpp>
#include <cmath>

#include "codec/gaussian.hpp"

using namespace fedctl;
using test::bytes_of;

namespace {

test::Chain chain(const char* name, std::map<std::string, double> options = {}) {
  return {name, {test::plugin(codec::codec_kinds(), name, std::move(options))}};
}

}  // namespace

TEST_CASE("threshold keeps what reaches its share of the largest", "[codec][support]") {
  const std::vector<float> values = {1, -8, 4, 3.9F, 0, -4, 2};
  const auto codec = chain("threshold", {{"relative", 0.5}}).make({7});
  Rng rng(1);
  std::vector<float> out(7);
  codec->decode(codec->encode(values, rng), out);
  CHECK(out == std::vector<float>{0, -8, 4, 0, 0, -4, 0});
}

TEST_CASE("masked loses nothing and has these bytes", "[codec][support]") {
  const auto codec = chain("masked").make({16});
  Rng rng(1);
  std::vector<float> values(16), out(16);
  CHECK(codec->encode(values, rng) == bytes_of({0, 0, 0, 0}));
  values[2] = 1;
  values[15] = -2;
  // Gaps 2 and 12: r = 2 takes 3 + 6 bits, r = 3 takes 4 + 5: the smaller r; as short as a bitmap
  // of two bytes would be three with r itself, so the bitmap.
  const Bytes encoded = codec->encode(values, rng);
  CHECK(encoded == bytes_of({2, 0, 0, 0, 1, 0x04, 0x80, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}));
  codec->decode(encoded, out);
  CHECK(out == values);
}

TEST_CASE("of positions and bitmap the shorter is sent, and no other read", "[codec][support]") {
  const std::size_t count = 4000;
  Rng rng(2);
  for (const std::size_t every : {2, 400}) {
    std::vector<float> values(count), out(count);
    for (std::size_t i = 0; i < count; i += every) values[i] = 1;
    const auto codec = chain("masked").make({count});
    Bytes encoded = codec->encode(values, rng);
    CHECK(std::to_integer<int>(encoded[4]) == (every == 2 ? 1 : 0));
    CHECK(encoded.size() <= 5 + count / 8 + 4 * count / every);
    codec->decode(encoded, out);
    CHECK(out == values);
  }
  // Position 0 of 16 as a bitmap where Rice's code takes two bytes as well.
  std::vector<float> out(16);
  CHECK_THROWS_AS(
      chain("masked").make({16})->decode(bytes_of({1, 0, 0, 0, 1, 1, 0, 0, 0, 0x80, 0x3f}), out),
      WireError);
  CHECK_THROWS_AS(chain("masked").make({16})->decode(bytes_of({17, 0, 0, 0, 1}), out), WireError);
}

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "codec/chains.hpp"

using namespace fedctl;

namespace {

std::unique_ptr<codec::Codec> float16(std::size_t count) {
  return test::Chain{"float16", {test::plugin(codec::codec_kinds(), "float16")}}.make({count});
}
std::uint16_t half_of(float value) {
  Rng rng(0);
  const Bytes bytes = float16(1)->encode(std::span(&value, 1), rng);
  REQUIRE(bytes.size() == 2);
  return ByteReader(bytes).number<std::uint16_t>();
}
float value_of(std::uint16_t half) {
  float value = 0;
  float16(1)->decode(std::as_bytes(std::span(&half, 1)), std::span(&value, 1));
  return value;
}
// The definition, in double: 5 exponent bits with bias 15, 10 mantissa bits.
double defined_value(unsigned half) {
  const int exponent = static_cast<int>((half >> 10) & 31);
  const double mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("float16 decodes all halves as IEEE 754 defines them", "[codec][float16]") {
  for (unsigned half = 0; half < 0x10000; ++half) {
    const auto bits = static_cast<std::uint16_t>(half);
    if ((half & 0x7c00) == 0x7c00) {
      CHECK_THROWS_AS(value_of(bits), WireError);
      continue;
    }
    const float value = value_of(bits);
    REQUIRE(static_cast<double>(value) == defined_value(half));
    REQUIRE(std::signbit(value) == (half >= 0x8000));
    REQUIRE(half_of(value) == half);
  }
}

TEST_CASE("float16 rounds to nearest, ties to even", "[codec][float16]") {
  constexpr float kUp = std::numeric_limits<float>::infinity();
  for (unsigned half = 0; half < 0x7bff; ++half) {
    // The middle of two halves is a float; so are its neighbours.
    const auto middle = static_cast<float>((defined_value(half) + defined_value(half + 1)) / 2);
    REQUIRE(half_of(middle) == half + (half & 1));
    REQUIRE(half_of(std::nextafter(middle, 0.0F)) == half);
    REQUIRE(half_of(std::nextafter(middle, kUp)) == half + 1);
    REQUIRE(half_of(-middle) == (half + (half & 1) + 0x8000));
  }
}

TEST_CASE("float16 saturates at 65504", "[codec][float16]") {
  for (const float value :
       {65504.0F, 65519.9F, 65520.0F, 1e9F, std::numeric_limits<float>::max()}) {
    CHECK(half_of(value) == 0x7bff);
    CHECK(half_of(-value) == 0xfbff);
  }
}

// Bytes by an independent implementation: python3 -c "import struct; print(struct.pack('<6e',
// ...).hex())"
TEST_CASE("float16 writes the bytes that Python's struct writes", "[codec][float16][golden]") {
  const std::vector<float> values = {1.0F, -2.5F, 0.1F, 3.14159265F, 1e-5F, -6e-8F};
  Rng rng(0);
  CHECK(float16(6)->encode(values, rng) ==
        Bytes{std::byte{0x00}, std::byte{0x3c}, std::byte{0x00}, std::byte{0xc1}, std::byte{0x66},
              std::byte{0x2e}, std::byte{0x48}, std::byte{0x42}, std::byte{0xa8}, std::byte{0x00},
              std::byte{0x01}, std::byte{0x80}});
}

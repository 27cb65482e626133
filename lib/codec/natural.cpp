// natural: every value as a signed power of two, one of the two around it, at random so that the
// expectation is right (natural compression: Horvath, Ho, Horvath, Sahu, Canini, Richtarik, 2022,
// arXiv 1905.10988, section 2).
//
// Bytes: one exponent byte a value: 0 for 0, else e for 2^(e - 127), 1 to 254; then a bit a value,
// 1 if it is negative, lowest bit first, zero bits to the end of the byte. 0 has no sign.
//        count + ceil(count / 8)
// Error: E |decoded - x|^2 <= |x|^2 / 8 (from 2^-126 on), and less than |x| a value. Below 2^-126
// the powers are 0 and 2^-126. 2^127 is the largest: beyond it a value decodes to 2^127 (the paper
// does not limit the exponent). Draws a word a value.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "codec/codec.hpp"
#include "codec/detail/bits.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

constexpr std::uint32_t kTopExponent = 254;
constexpr std::uint32_t kMantissa = 0x7f'ffff;

class Natural final : public Codec {
 public:
  std::size_t max_encoded_bytes(std::size_t count) const override {
    return count + detail::packed_bytes(count, 1);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    detail::largest_magnitude(values);
    Bytes encoded;
    encoded.reserve(max_encoded_bytes(values.size()));
    std::vector<std::uint8_t> signs(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      // A uniform 23-bit number carries into the exponent with the probability that is wanted; of
      // a subnormal, too, whose mantissa has no leading one.
      const std::uint32_t magnitude = detail::magnitude_bits(values[i]);
      const std::uint32_t carried = (magnitude + (rng.next_u32() & kMantissa)) >> 23;
      const std::uint32_t exponent = std::min(carried, kTopExponent);
      encoded.push_back(static_cast<std::byte>(exponent));
      signs[i] = static_cast<std::uint8_t>(exponent > 0 && values[i] < 0);
    }
    detail::pack(signs, 1, encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    detail::expect_bytes("natural", encoded, max_encoded_bytes(out.size()));
    std::vector<std::uint8_t> signs(out.size());
    detail::unpack(encoded.subspan(out.size()), 1, signs);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto exponent = std::to_integer<std::uint32_t>(encoded[i]);
      if (exponent > kTopExponent) throw WireError("natural: an exponent is 255, must be below");
      if (exponent == 0 && signs[i] != 0) throw WireError("natural: a zero has a sign");
      out[i] = std::bit_cast<float>((exponent << 23) | (std::uint32_t{signs[i]} << 31));
    }
  }
};

struct NaturalOptions : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry natural() {
  return {.kind = {.name = "natural",
                   .summary = "9 bits a value: sign and power of two, unbiased",
                   .paper = "Horvath et al., natural compression (arXiv 1905.10988)",
                   .make_options = [] { return std::make_unique<NaturalOptions>(); }},
          .promises = {.unbiased = true},
          .make = [](const config::Options&, Blocks) { return std::make_unique<Natural>(); }};
}

}  // namespace fedctl::codec

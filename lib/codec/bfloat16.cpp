// bfloat16: every value as the upper half of its float32 (1 sign, 8 exponent, 7 mantissa bits).
//
// Bytes: 2 a value, little-endian, in order. Nothing else.
// Error: round to nearest, ties to even: at most 2^-8 |x| for normal numbers. A magnitude that
// would become infinite becomes the largest finite one.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

constexpr std::uint32_t kLargest = 0x7f7f'0000;  // as a float

std::uint16_t to_bfloat(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t odd = (bits >> 16) & 1;
  const std::uint32_t magnitude = (bits & 0x7fff'ffffU) + 0x7fff + odd;
  return static_cast<std::uint16_t>((std::min(magnitude, kLargest) | (bits & 0x8000'0000U)) >> 16);
}

float from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

class Bfloat16 final : public Codec {
 public:
  std::size_t max_encoded_bytes(std::size_t count) const override { return 2 * count; }

  Bytes encode(std::span<const float> values, Rng&) override {
    detail::largest_magnitude(values);
    std::vector<std::uint16_t> halves(values.size());
    std::transform(values.begin(), values.end(), halves.begin(), to_bfloat);
    const ByteView bytes = std::as_bytes(std::span(halves));
    return {bytes.begin(), bytes.end()};
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    detail::expect_bytes("bfloat16", encoded, 2 * out.size());
    if (out.empty()) return;
    std::vector<std::uint16_t> halves(out.size());
    std::memcpy(halves.data(), encoded.data(), encoded.size());
    std::transform(halves.begin(), halves.end(), out.begin(), from_bfloat);
    detail::largest_magnitude(out);
  }
};

struct Bfloat16Options : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry bfloat16() {
  return {.kind = {.name = "bfloat16",
                   .summary = "2 bytes a value: the upper half of float32, nearest even",
                   .paper = "Kalamkar et al., arXiv 1905.12322",
                   .make_options = [] { return std::make_unique<Bfloat16Options>(); }},
          .promises = {.contractive = true},
          .make = [](const config::Options&, Blocks) { return std::make_unique<Bfloat16>(); }};
}

}  // namespace fedctl::codec

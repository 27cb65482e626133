// float16: every value as an IEEE 754 half (1 sign, 5 exponent, 10 mantissa bits).
//
// Bytes: 2 a value, little-endian, in order. Nothing else.
// Error: round to nearest, ties to even: at most 2^-11 |x| for |x| >= 2^-14, 2^-25 below. A
// magnitude beyond 65504, the largest finite half, becomes 65504: infinity could not be averaged,
// and error feedback sends the remainder later.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

constexpr std::uint32_t kLargestHalfAsFloat = 0x477f'e000;     // 65504
constexpr std::uint32_t kSmallestNormalAsFloat = 0x3880'0000;  // 2^-14
constexpr int kHalfInfinity = 0x7c00;                          // NaN above

// A branch would keep the loops below from being vectorised, and so would `?:`, which GCC turns
// back into a branch around the floating-point operation.
std::uint32_t select(bool condition, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

std::uint16_t to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = std::min(bits & 0x7fff'ffffU, kLargestHalfAsFloat);
  // Halves below 2^-14 are multiples of 2^-24, as floats in [1/2, 1) are: the sum does the
  // rounding.
  const float sum = std::bit_cast<float>(magnitude) + 0.5F;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(sum) - 0x3f00'0000U;
  // Exponent bias 127 -> 15. Half a unit is added, or just less if the last bit kept is 0: to even.
  const std::uint32_t odd = (magnitude >> 13) & 1;
  const std::uint32_t normal = (magnitude - ((127U - 15U) << 23) + 0xfff + odd) >> 13;
  const std::uint32_t half = select(magnitude < kSmallestNormalAsFloat, subnormal, normal);
  return static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000));
}

float from_half(std::uint16_t half) {
  const std::uint32_t magnitude = half & 0x7fffU;
  const std::uint32_t normal = (magnitude << 13) + ((127U - 15U) << 23);
  const float small = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F;
  const std::uint32_t bits = select(magnitude < 0x400, std::bit_cast<std::uint32_t>(small), normal);
  return std::bit_cast<float>(bits | (static_cast<std::uint32_t>(half & 0x8000U) << 16));
}

class Float16 final : public Codec {
 public:
  std::size_t max_encoded_bytes(std::size_t count) const override { return 2 * count; }

  Bytes encode(std::span<const float> values, Rng&) override {
    detail::largest_magnitude(values);
    std::vector<std::uint16_t> halves(values.size());
    std::transform(values.begin(), values.end(), halves.begin(), to_half);
    const ByteView bytes = std::as_bytes(std::span(halves));
    return {bytes.begin(), bytes.end()};
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    detail::expect_bytes("float16", encoded, 2 * out.size());
    if (out.empty()) return;
    std::vector<std::uint16_t> halves(out.size());
    std::memcpy(halves.data(), encoded.data(), encoded.size());
    int largest = 0;
    for (const std::uint16_t half : halves) largest = std::max(largest, half & 0x7fff);
    if (largest >= kHalfInfinity) throw WireError("float16: a value is infinite or not a number");
    std::transform(halves.begin(), halves.end(), out.begin(), from_half);
  }
};

struct Float16Options : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry float16() {
  return {.kind = {.name = "float16",
                   .summary = "2 bytes a value: IEEE half precision, nearest even, saturating",
                   .paper = "IEEE 754-2019, binary16",
                   .make_options = [] { return std::make_unique<Float16Options>(); }},
          .promises = {.contractive = true},
          .make = [](const config::Options&, Blocks) { return std::make_unique<Float16>(); }};
}

}  // namespace fedctl::codec

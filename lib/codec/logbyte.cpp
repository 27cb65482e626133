// logbyte: one byte a number, its sign and a logarithm. After Zelikman et al., "Just one byte (per
// gradient)", arXiv 2306.10015, whose 255 exponents and two signs do not fit into a byte; this
// layout does.
//
// Bytes: count, one a value, in order: bit 7 the sign, bits 0 to 6 a number m: 0 for 0 (then the
// sign is 0 too), else the magnitude e^((m - 64) / 8), from 3.8e-4 to 2634.
// Error: of the two magnitudes next to a value one is drawn so that the mean is the value; at most
// e^(1/8) - 1 = 13.3 % of it, 6.7 % for the nearer one. Below 3.8e-4 the two are 0 and 3.8e-4, and
// beyond 2634 the code is the largest. A value that decode() gave is coded as it was.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

constexpr std::size_t kLevels = 128;

// Ascending; the first is 0.
const std::array<float, kLevels>& levels() {
  static const std::array<float, kLevels> kTable = [] {
    std::array<float, kLevels> table{};
    for (std::size_t m = 1; m < kLevels; ++m) {
      table[m] = static_cast<float>(std::exp((static_cast<double>(m) - 64) / 8));
    }
    return table;
  }();
  return kTable;
}

class Logbyte final : public Codec {
 public:
  std::size_t max_encoded_bytes(std::size_t count) const override { return count; }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    detail::largest_magnitude(values);
    Bytes encoded;
    encoded.reserve(values.size());
    for (const float value : values) {
      const float magnitude = std::abs(value);
      const auto above = std::ranges::lower_bound(levels(), magnitude);
      auto m = static_cast<std::size_t>(above - levels().begin());
      const float draw = rng.uniform();  // one a value, whatever the values are
      if (m == kLevels) {
        m = kLevels - 1;
      } else if (m > 0) {
        const float low = levels()[m - 1], high = levels()[m];
        if (draw * (high - low) >= magnitude - low) --m;
      }
      const bool negative = value < 0 && m > 0;
      encoded.push_back(static_cast<std::byte>(m | (negative ? 0x80U : 0U)));
    }
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    detail::expect_bytes("logbyte", encoded, out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto code = std::to_integer<unsigned>(encoded[i]);
      if (code == 0x80) throw WireError("logbyte: a zero with a sign");
      const float magnitude = levels()[code & 0x7f];
      out[i] = code > 0x80 ? -magnitude : magnitude;
    }
  }
};

struct LogbyteOptions : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry logbyte() {
  return {
      .kind = {.name = "logbyte",
               .summary = "1 byte a value: sign and logarithm, 3.8e-4 to 2634, right on average",
               .paper = "Zelikman et al., Just One Byte (arXiv 2306.10015)",
               .make_options = [] { return std::make_unique<LogbyteOptions>(); }},
      .promises = {.unbiased = true},
      .make = [](const config::Options&, Blocks) { return std::make_unique<Logbyte>(); }};
}

}  // namespace fedctl::codec

// base3: as many numbers to a byte as surely fit, with no table. Five of an alphabet of three, 1.6
// bits each (Wen et al., TernGrad, arXiv 1705.07878, asks for log2 3 = 1.585); four of an alphabet
// of four, three of five or six, two up to 16, else one.
//
// Bytes for n numbers below an alphabet's size A, m the largest number with A^m <= 256:
//   ceil(n / m) bytes s_0 + s_1 A + s_2 A^2 + ..., the last one of what is left.
// A byte of j numbers is below A^j.

#include <algorithm>
#include <array>

#include "base/assert.hpp"
#include "codec/codec.hpp"

namespace fedctl::codec {
namespace {

// A^digits.
unsigned power(unsigned alphabet, std::size_t digits) {
  unsigned result = 1;
  for (std::size_t i = 0; i < digits; ++i) result *= alphabet;
  return result;
}

std::size_t numbers_per_byte(unsigned alphabet) {
  std::size_t m = 1;
  while (power(alphabet, m + 1) <= 256) ++m;
  return m;
}

using Digits = std::array<std::uint8_t, 8>;

std::array<Digits, 256> digits_of_bytes(unsigned alphabet) {
  std::array<Digits, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned rest = byte;
    for (std::uint8_t& digit : table[byte]) {
      digit = static_cast<std::uint8_t>(rest % alphabet);
      rest /= alphabet;
    }
  }
  return table;
}

class Base3 final : public SymbolCoder {
 public:
  std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const override {
    const std::size_t m = numbers_per_byte(alphabet);
    return (count + m - 1) / m;
  }

  void encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    const std::size_t m = numbers_per_byte(alphabet);
    std::size_t at = out.size();
    out.resize(at + max_encoded_bytes(symbols.size(), alphabet));
    for (std::size_t first = 0; first < symbols.size(); first += m, ++at) {
      unsigned byte = 0;
      for (std::size_t i = std::min(first + m, symbols.size()); i-- > first;) {
        byte = byte * alphabet + symbols[i];
      }
      out[at] = static_cast<std::byte>(byte);
    }
  }

  void decode(ByteView& encoded, unsigned alphabet,
              std::span<std::uint8_t> symbols) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    const std::size_t m = numbers_per_byte(alphabet);
    const ByteView bytes = ByteReader(encoded).raw(max_encoded_bytes(symbols.size(), alphabet));
    const std::array<Digits, 256> table = digits_of_bytes(alphabet);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::size_t digits = std::min(m, symbols.size() - i * m);
      const auto byte = std::to_integer<unsigned>(bytes[i]);
      if (byte >= power(alphabet, digits)) {
        throw WireError("base3: byte " + std::to_string(i) + " is " + std::to_string(byte) +
                        ", must be below " + std::to_string(power(alphabet, digits)));
      }
      std::copy_n(table[byte].begin(), digits,
                  symbols.begin() + static_cast<std::ptrdiff_t>(i * m));
    }
    encoded = encoded.subspan(bytes.size());
  }
};

struct Base3Options : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry base3() {
  return {.kind = {.name = "base3",
                   .summary = "a quantizer's numbers without a table: 5 of three kinds to a byte",
                   .paper = "Wen et al., TernGrad, NeurIPS 2017 (arXiv 1705.07878)",
                   .make_options = [] { return std::make_unique<Base3Options>(); }},
          .stage = Stage::coder,
          .make_coder = [](const config::Options&) { return std::make_unique<Base3>(); }};
}

}  // namespace fedctl::codec

// The plainest SymbolCoder: every number in the bits that the largest needs, lowest bit first, zero
// bits to the end of the byte.
#pragma once

#include <algorithm>
#include <bit>

#include "codec/codec.hpp"
#include "codec/detail/bits.hpp"

namespace fedctl::codec::detail {

class FixedWidth final : public SymbolCoder {
 public:
  std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const override {
    return packed_bytes(count, width(alphabet));
  }

  void encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) const override {
    pack(symbols, width(alphabet), out);
  }

  void decode(ByteView& encoded, unsigned alphabet,
              std::span<std::uint8_t> symbols) const override {
    const std::size_t bytes = max_encoded_bytes(symbols.size(), alphabet);
    unpack(ByteReader(encoded).raw(bytes), width(alphabet), symbols);
    encoded = encoded.subspan(bytes);
    std::uint8_t highest = 0;
    for (const std::uint8_t symbol : symbols) highest = std::max(highest, symbol);
    if (highest >= alphabet) {
      throw WireError("a code is " + std::to_string(highest) + ", must be below " +
                      std::to_string(alphabet));
    }
  }

 private:
  static unsigned width(unsigned alphabet) {
    return static_cast<unsigned>(std::bit_width(alphabet - 1));
  }
};

}  // namespace fedctl::codec::detail

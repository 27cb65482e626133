// huffman: the numbers of a quantizer by a canonical Huffman code (Huffman, Proc. IRE 40, 1952),
// no code longer than 15 bits (detail/code_lengths.hpp). Less than H + 1 bits a number and never
// less than 1: for numbers that are mostly equal, golomb and rans are shorter.
//
// Bytes for n numbers below an alphabet's size; for n = 0 none:
//   table   for every number of the alphabet the length of its code, 4 bits, 0 if it does not
//           occur; lowest bits first, zero bits to the end of the byte
//   unless one number alone occurs, which has length 1:
//     codes in order, zero bits to the end of the byte
// Codes of one length are consecutive binary numbers in the order of what they stand for, those of
// a shorter length come before; a code's highest bit is read first (RFC 1951, section 3.2.2). The
// reader insists on the table that the numbers have.

#include <algorithm>
#include <array>
#include <vector>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/bit_window.hpp"
#include "codec/detail/bits.hpp"
#include "codec/detail/code_lengths.hpp"

namespace fedctl::codec {
namespace {

using detail::CodeLengths;
using detail::kCodeBitsMax;

constexpr unsigned kTableBits = 4;
static_assert(kCodeBitsMax < 1U << kTableBits);

CodeLengths lengths_of(std::span<const std::uint8_t> symbols) {
  std::array<std::array<std::uint64_t, 256>, 2> counts{};
  for (std::size_t i = 0; i < symbols.size(); ++i) ++counts[i % 2][symbols[i]];
  for (std::size_t symbol = 0; symbol < 256; ++symbol) counts[0][symbol] += counts[1][symbol];
  return detail::code_lengths(counts[0]);
}

bool one_alone(const CodeLengths& lengths) {
  return std::ranges::count(lengths, 0) == static_cast<std::ptrdiff_t>(lengths.size()) - 1;
}

// The lowest bit is the first of the code.
struct Code {
  std::uint16_t bits;
  std::uint8_t length;
};
using Codes = std::array<Code, 256>;

// Precondition: the lengths are those of a complete code.
Codes codes_of(const CodeLengths& lengths) {
  Codes codes{};
  unsigned next = 0;
  for (unsigned length = 1; length <= kCodeBitsMax; ++length, next <<= 1) {
    for (std::size_t symbol = 0; symbol < lengths.size(); ++symbol) {
      if (lengths[symbol] != length) continue;
      unsigned reversed = 0;
      for (unsigned bit = 0; bit < length; ++bit)
        reversed |= ((next >> bit) & 1) << (length - 1 - bit);
      codes[symbol] = {static_cast<std::uint16_t>(reversed), static_cast<std::uint8_t>(length)};
      ++next;
    }
  }
  return codes;
}

// What the reader looks up: for every value of the next `bits` bits, the longest code, what they
// begin with.
struct Lookup {
  struct Entry {
    std::uint8_t symbol, length;
  };
  unsigned bits;
  std::vector<Entry> entries;
};

Lookup lookup_of(const CodeLengths& lengths) {
  Lookup lookup{*std::ranges::max_element(lengths), {}};
  lookup.entries.resize(std::size_t{1} << lookup.bits);
  const Codes codes = codes_of(lengths);
  for (std::size_t symbol = 0; symbol < codes.size(); ++symbol) {
    const Code code = codes[symbol];
    if (code.length == 0) continue;
    for (std::size_t i = code.bits; i < lookup.entries.size(); i += std::size_t{1} << code.length) {
      lookup.entries[i] = {static_cast<std::uint8_t>(symbol), code.length};
    }
  }
  return lookup;
}

CodeLengths read_table(ByteView& encoded, unsigned alphabet) {
  CodeLengths lengths{};
  const std::size_t bytes = detail::packed_bytes(alphabet, kTableBits);
  detail::unpack(ByteReader(encoded).raw(bytes), kTableBits, std::span(lengths).first(alphabet));
  encoded = encoded.subspan(bytes);
  std::size_t share = 0;  // of all sequences of kCodeBitsMax bits
  for (const std::uint8_t length : lengths) {
    if (length > 0) share += std::size_t{1} << (kCodeBitsMax - length);
  }
  const bool alone = one_alone(lengths) && std::ranges::find(lengths, 1) != lengths.end();
  if (!alone && share != std::size_t{1} << kCodeBitsMax) {
    throw WireError("huffman: the lengths are not those of a code");
  }
  return lengths;
}

ByteView read_codes(const Lookup& lookup, ByteView in, std::span<std::uint8_t> symbols) {
  constexpr unsigned kPerWindow = detail::BitWindow::kBits / kCodeBitsMax;
  const std::size_t mask = lookup.entries.size() - 1;
  detail::BitWindow window(in);
  for (std::size_t first = 0; first < symbols.size(); first += kPerWindow) {
    const auto group =
        symbols.subspan(first, std::min<std::size_t>(kPerWindow, symbols.size() - first));
    std::uint64_t bits = window.peek();
    unsigned used = 0;
    for (std::uint8_t& symbol : group) {
      const Lookup::Entry entry = lookup.entries[bits & mask];
      symbol = entry.symbol;
      bits >>= entry.length;
      used += entry.length;
    }
    window.drop(used);
  }
  return window.finish();
}

class Huffman final : public SymbolCoder {
 public:
  std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const override {
    if (count == 0) return 0;
    // The code of fixed width is one of those among which the shortest is chosen.
    return detail::packed_bytes(alphabet, kTableBits) +
           detail::packed_bytes(count, static_cast<unsigned>(std::bit_width(alphabet - 1)));
  }

  void encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    if (symbols.empty()) return;
    const CodeLengths lengths = lengths_of(symbols);
    detail::pack(std::span(lengths).first(alphabet), kTableBits, out);
    if (one_alone(lengths)) return;
    const Codes codes = codes_of(lengths);
    detail::BitWriter writer(out);
    constexpr std::size_t kPerNumber = 3;  // 45 bits
    for (std::size_t first = 0; first < symbols.size(); first += kPerNumber) {
      std::uint64_t bits = 0;
      unsigned used = 0;
      for (const std::uint8_t symbol :
           symbols.subspan(first, std::min(kPerNumber, symbols.size() - first))) {
        bits |= std::uint64_t{codes[symbol].bits} << used;
        used += codes[symbol].length;
      }
      writer.number(bits, used);
    }
    writer.finish();
  }

  void decode(ByteView& encoded, unsigned alphabet,
              std::span<std::uint8_t> symbols) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    if (symbols.empty()) return;
    ByteView rest = encoded;
    const CodeLengths lengths = read_table(rest, alphabet);
    if (one_alone(lengths)) {
      std::ranges::fill(symbols,
                        static_cast<std::uint8_t>(std::ranges::find(lengths, 1) - lengths.begin()));
    } else {
      rest = read_codes(lookup_of(lengths), rest, symbols);
      if (lengths_of(symbols) != lengths) {
        throw WireError("huffman: the lengths are not those of the numbers");
      }
    }
    encoded = rest;
  }
};

struct HuffmanOptions : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry huffman() {
  return {.kind = {.name = "huffman",
                   .summary = "a quantizer's numbers in 1 to 15 bits, the frequent ones in fewer",
                   .paper = "Huffman, Proc. IRE 40, 1952; Larmore, Hirschberg, JACM 37, 1990",
                   .make_options = [] { return std::make_unique<HuffmanOptions>(); }},
          .stage = Stage::coder,
          .make_coder = [](const config::Options&) { return std::make_unique<Huffman>(); }};
}

}  // namespace fedctl::codec

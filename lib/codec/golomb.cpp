// golomb: runs of the most frequent number, the "zero", by Golomb's code (Golomb, "Run-length
// encodings", IEEE Trans. IT 12, 1966; Gallager and van Voorhis, IT 21, 1975; with `power_of_two`
// Rice's, JPL 79-22, 1979), every other number after its run in fixed width. It is what sparse
// ternary compression (Sattler et al., arXiv 1903.02891) sends, without its formula for the
// parameter: the best one for the numbers at hand is found by trying.
//
// Bytes for n numbers below an alphabet's size A; for n = 0 none:
//   u8 zero     the most frequent number, of equals the lowest
//   M, LEB128   Golomb's parameter (detail/runs.hpp); 0: every number is the zero, nothing follows
//   bits        for every other number, and for the zeros behind the last one if there are any:
//     floor(run / M) one bits and a zero bit;
//     x = run mod M, truncated binary: with b = ceil(log2 M) and u = 2^b - M the b - 1 bits of x if
//     x < u, else the upper b - 1 bits of x + u and then its lowest;
//     unless the row ends with the run, the number (less 1 above the zero) in ceil(log2(A - 1))
//     bits
// A run is never longer than what is left of the row, and the reader insists on the zero and the M
// that encode() chooses: equal numbers have equal bytes.

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/bit_window.hpp"
#include "codec/detail/bits.hpp"
#include "codec/detail/runs.hpp"

namespace fedctl::codec {
namespace {

// Index of the first number from `first` on that is not `zero`; the size if there is none.
std::size_t next_other(std::span<const std::uint8_t> symbols, std::size_t first,
                       std::uint8_t zero) {
  const std::uint64_t zeros = zero * 0x0101'0101'0101'0101ULL;
  for (; first + 8 <= symbols.size(); first += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, symbols.data() + first, sizeof(eight));
    if (eight != zeros) {
      return first + static_cast<std::size_t>(std::countr_zero(eight ^ zeros)) / 8;
    }
  }
  while (first < symbols.size() && symbols[first] == zero) ++first;
  return first;
}

// Calls use(run, index) for every number that is not `zero`: its index and the zeros before it; and
// for zeros at the end with the size as index.
template <class Use>
void for_runs(std::span<const std::uint8_t> symbols, std::uint8_t zero, Use use) {
  for (std::size_t first = 0; first < symbols.size();) {
    const std::size_t other = next_other(symbols, first, zero);
    use(other - first, other);
    first = other + 1;
  }
}

// How a run and the number behind it look; the same for writer and reader.
struct Code {
  std::uint64_t parameter;  // M
  unsigned low_bits;        // b - 1, of M = 1 none
  std::uint64_t shorter;    // u: remainders below it have no further bit
  unsigned symbol_bits;

  Code(std::uint64_t m, unsigned alphabet)
      : parameter(m),
        low_bits(m == 1 ? 0 : static_cast<unsigned>(std::bit_width(m - 1)) - 1),
        shorter(m == 1 ? 1 : (std::uint64_t{2} << low_bits) - m),
        symbol_bits(static_cast<unsigned>(std::bit_width(alphabet - 2))) {}
};

class RunWriter {
 public:
  RunWriter(const Code& code, Bytes& out) : code_(code), writer_(out) {}

  // `symbol` is the number's place among those that are not the zero.
  void write(std::uint64_t run, std::uint64_t symbol, unsigned symbol_bits) {
    std::uint64_t ones = run / code_.parameter;
    const std::uint64_t x = run - ones * code_.parameter;
    std::uint64_t low = x;
    unsigned bits = code_.low_bits;
    if (x >= code_.shorter) {
      const std::uint64_t y = x + code_.shorter;
      low = (y >> 1) | ((y & 1) << bits);
      ++bits;
    }
    low |= symbol << bits;
    bits += symbol_bits;
    for (; ones >= 8; ones -= 8) writer_.number(0xff, 8);
    const auto unary = static_cast<unsigned>(ones) + 1;  // of one bits and a zero bit
    const std::uint64_t all_ones = (std::uint64_t{1} << (unary - 1)) - 1;
    writer_.number(all_ones | (low << unary), unary + bits);
  }
  void finish() { writer_.finish(); }

 private:
  const Code& code_;
  detail::BitWriter writer_;
};

class RunReader {
 public:
  RunReader(const Code& code, ByteView in) : code_(code), window_(in) {}

  // Throws WireError if the run is longer than `run_max`.
  std::uint64_t run(std::uint64_t run_max) {
    std::uint64_t ones = 0, bits = window_.peek();
    auto unary = static_cast<unsigned>(std::countr_one(bits));
    while (unary >= kUnaryMax) {
      ones += kUnaryMax;
      if (ones > run_max) refuse_run();
      window_.drop(kUnaryMax);
      bits = window_.peek();
      unary = static_cast<unsigned>(std::countr_one(bits));
    }
    ones += unary;
    if (ones > run_max / code_.parameter) refuse_run();
    bits >>= unary + 1;
    unsigned used = code_.low_bits;
    std::uint64_t x = bits & ((std::uint64_t{1} << used) - 1);
    if (x >= code_.shorter) {
      x = ((x << 1) | ((bits >> used) & 1)) - code_.shorter;
      ++used;
    }
    window_.drop(unary + 1 + used);
    behind_ = bits >> used;
    const std::uint64_t length = ones * code_.parameter + x;
    if (length > run_max) refuse_run();
    return length;
  }
  // Of the number behind the run that was read last.
  std::uint64_t symbol() {
    window_.drop(code_.symbol_bits);
    return behind_ & ((std::uint64_t{1} << code_.symbol_bits) - 1);
  }
  ByteView finish() const { return window_.finish(); }

 private:
  // So that the end of a run and its number are in one window: 7 + 1 + 35 + 8 bits.
  static constexpr unsigned kUnaryMax = 8;
  [[noreturn]] static void refuse_run() { throw WireError("golomb: a run is too long"); }

  const Code& code_;
  detail::BitWindow window_;
  std::uint64_t behind_ = 0;
};

class Golomb final : public SymbolCoder {
 public:
  explicit Golomb(bool power_of_two) : power_of_two_(power_of_two) {}

  std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const override {
    if (count == 0) return 0;
    // With M = 1 a zero is a bit, another number one more than its width, and the zeros at the end
    // have a bit more; the best M is not longer. At least count / alphabet are zeros.
    const std::size_t others = count - (count + alphabet - 1) / alphabet;
    const std::size_t bits = count + others * Code(1, alphabet).symbol_bits + 1;
    return 1 + kParameterBytesMax + (bits + 7) / 8;
  }

  void encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    if (symbols.empty()) return;
    const std::uint8_t zero = detail::most_frequent(symbols);
    const std::uint64_t parameter = parameter_of(symbols, zero);
    ByteWriter header(out);
    header.number(zero);
    header.varint(parameter);
    if (parameter == 0) return;
    const Code code(parameter, alphabet);
    RunWriter writer(code, out);
    for_runs(symbols, zero, [&](std::size_t run, std::size_t at) {
      if (at == symbols.size()) return writer.write(run, 0, 0);
      const std::uint8_t symbol = symbols[at];
      writer.write(run, symbol < zero ? symbol : symbol - 1U, code.symbol_bits);
    });
    writer.finish();
  }

  void decode(ByteView& encoded, unsigned alphabet,
              std::span<std::uint8_t> symbols) const override {
    FEDCTL_ASSERT(alphabet >= 2 && alphabet <= 256);
    if (symbols.empty()) return;
    ByteReader header(encoded);
    const auto zero = header.number<std::uint8_t>();
    if (zero >= alphabet)
      throw WireError("golomb: the most frequent number is none of the alphabet");
    const std::uint64_t parameter = header.varint();
    // Of two powers of two above every run the larger one never has fewer bits.
    if (parameter > 2 * symbols.size()) throw WireError("golomb: the parameter is too large");
    ByteView rest = header.raw(header.left());
    std::ranges::fill(symbols, zero);
    if (parameter > 0) {
      rest = read_runs(Code(parameter, alphabet), zero, alphabet, rest, symbols);
      if (detail::most_frequent(symbols) != zero) {
        throw WireError("golomb: another number is more frequent");
      }
      if (parameter_of(symbols, zero) != parameter) {
        throw WireError("golomb: the parameter is not the shortest");
      }
    }
    encoded = rest;
  }

 private:
  static constexpr std::size_t kParameterBytesMax = 5;  // below 2^35

  // 0 if there is no other number than `zero`.
  std::uint64_t parameter_of(std::span<const std::uint8_t> symbols, std::uint8_t zero) const {
    if (next_other(symbols, 0, zero) == symbols.size()) return 0;
    detail::RunLengths lengths;
    for_runs(symbols, zero, [&](std::size_t run, std::size_t) { lengths.add(run); });
    return lengths.best_parameter(power_of_two_);
  }

  static ByteView read_runs(const Code& code, std::uint8_t zero, unsigned alphabet, ByteView in,
                            std::span<std::uint8_t> symbols) {
    RunReader reader(code, in);
    for (std::size_t at = 0; at < symbols.size(); ++at) {
      at += reader.run(symbols.size() - at);
      if (at == symbols.size()) break;
      const std::uint64_t symbol = reader.symbol();
      if (symbol + 1 >= alphabet) throw WireError("golomb: a number is none of the alphabet");
      symbols[at] = static_cast<std::uint8_t>(symbol < zero ? symbol : symbol + 1);
    }
    return reader.finish();
  }

  bool power_of_two_;
};

struct GolombOptions : config::Options {
  bool power_of_two = false;
  void fields(config::Fields& fields) override {
    fields.boolean("power_of_two", power_of_two, "Rice's code: only powers of two as parameter");
  }
};

}  // namespace

CodecEntry golomb() {
  return {
      .kind = {.name = "golomb",
               .summary = "runs of a quantizer's most frequent number, for sparse ones",
               .paper = "Golomb, IEEE Trans. IT 12, 1966; Sattler et al., arXiv 1903.02891",
               .make_options = [] { return std::make_unique<GolombOptions>(); }},
      .stage = Stage::coder,
      .make_coder = [](const config::Options& options) {
        return std::make_unique<Golomb>(dynamic_cast<const GolombOptions&>(options).power_of_two);
      }};
}

}  // namespace fedctl::codec

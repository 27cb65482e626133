// e3m0: 4-bit floats of a sign, three exponent bits and no mantissa (Streaming DiLoCo: Douillard et
// al., arXiv 2501.18512, section 3.3). The paper gives no scaling rule. Here s = max |x| / 16 a
// block, and a value becomes the nearest of 0, +-s/4, +-s/2, ... +-16 s, of two equally near the
// one of larger magnitude.
//
// Bytes: float32 max |x| for every block that holds a value, in order; then a symbol for every
// value: 7 for 0; 7 + e for s * 2^(e - 3) and 7 - e for its negative, e from 1 to 7; 15 is not
// used. In a block with a scale some symbol is 0 or 14, in one without all are 7.
//        4 * blocks + ceil(count / 2)
// Error: at most |x| / 3 for |x| >= s / 4, less than s / 8 below s / 8, else at most |x|.

#include <algorithm>
#include <cmath>

#include "codec/codec.hpp"
#include "codec/detail/block_symbols.hpp"

namespace fedctl::codec {
namespace {

constexpr int kZero = 7;
constexpr int kTop = 14;

class E3m0 final : public detail::BlockSymbols {
 public:
  E3m0(Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : BlockSymbols("e3m0", kTop + 1, 1, blocks, std::move(coder)) {}

 private:
  void encode_block(std::span<const float> values, Rng&, std::span<float> parameters,
                    std::span<std::uint8_t> symbols) const override {
    const float scale = detail::largest_magnitude(values);
    parameters[0] = scale;
    const float divisor = scale > 0 ? scale : 1;  // 1 / scale may overflow, a quotient cannot
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float share = std::abs(values[i]) / divisor;
      // The middles of neighbours: 2^-7 between 0 and 2^-6, then 3/4 of the larger.
      int exponent = share >= 0x1p-7F ? 1 : 0;
      for (float middle = 0.75F; middle > 0x1p-6F; middle /= 2) exponent += share >= middle ? 1 : 0;
      symbols[i] = static_cast<std::uint8_t>(values[i] < 0 ? kZero - exponent : kZero + exponent);
    }
  }

  void decode_block(std::span<const float> parameters, std::span<const std::uint8_t> symbols,
                    std::span<float> out) const override {
    expect_scale(parameters[0]);
    const auto [lowest, highest] = std::minmax_element(symbols.begin(), symbols.end());
    const bool fits = parameters[0] > 0 ? *lowest == 0 || *highest == kTop
                                        : *lowest == kZero && *highest == kZero;
    if (!fits) refuse("the codes of a block do not fit its scale");
    float levels[kTop + 1] = {};
    for (int exponent = 1; exponent <= kZero; ++exponent) {
      const float level = std::ldexp(parameters[0], exponent - kZero);
      levels[kZero + exponent] = level;
      levels[kZero - exponent] = -level;
    }
    for (std::size_t i = 0; i < symbols.size(); ++i) out[i] = levels[symbols[i]];
  }
};

struct E3m0Options : config::Options {
  void fields(config::Fields&) override {}
};

std::unique_ptr<Codec> make_coded(const config::Options&, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  return std::make_unique<E3m0>(blocks, std::move(coder));
}

}  // namespace

CodecEntry e3m0() {
  return {.kind = {.name = "e3m0",
                   .summary = "4-bit floats without a mantissa and a scale a block",
                   .paper = "Douillard et al., Streaming DiLoCo (arXiv 2501.18512)",
                   .make_options = [] { return std::make_unique<E3m0Options>(); }},
          .promises = {.contractive = true},
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

// sign: one bit a value and a scale a block. The scale is the mean magnitude, which makes the error
// smallest (Karimireddy et al., ICML 2019), or with `rms` the root of the mean square, which keeps
// the norm (Tang et al., "1-bit Adam", ICML 2021). Behind topk it is ComPEFT's ternary vector with
// the scale of least squares (Yadav, Choshen, Raffel, Bansal, arXiv 2311.13171).
//
// Bytes: float32 s for every block that holds a value, in order; then 1 for a value not below 0 (-0
// included) and 0 for another. In a block with s = 0 all are 1.
//        4 * blocks + ceil(count / 8)
// Error: |decoded - x|^2 = |x|^2 - |x|_1^2 / d; with `rms` 2 |x|^2 - 2 |x|_1 |x| / sqrt(d), which
// is more than |x|^2 for a sparse x, so only the mean is contractive.

#include <algorithm>
#include <cmath>

#include "codec/codec.hpp"
#include "codec/detail/block_symbols.hpp"

namespace fedctl::codec {
namespace {

class Sign final : public detail::BlockSymbols {
 public:
  Sign(bool rms, Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : BlockSymbols("sign", 2, 1, blocks, std::move(coder)), rms_(rms) {}

 private:
  void encode_block(std::span<const float> values, Rng&, std::span<float> parameters,
                    std::span<std::uint8_t> symbols) const override {
    double sum = 0;
    for (const double value : values) sum += rms_ ? value * value : std::abs(value);
    const double mean = sum / static_cast<double>(values.size());
    const auto scale = static_cast<float>(rms_ ? std::sqrt(mean) : mean);
    // A mean is not above the largest, but the sum of many may round up to it and beyond.
    parameters[0] = std::min(scale, detail::largest_magnitude(values));
    const bool zero = parameters[0] == 0;
    std::transform(values.begin(), values.end(), symbols.begin(),
                   [zero](float value) { return static_cast<std::uint8_t>(zero || value >= 0); });
  }

  void decode_block(std::span<const float> parameters, std::span<const std::uint8_t> symbols,
                    std::span<float> out) const override {
    const float scale = parameters[0];
    expect_scale(scale);
    if (scale == 0 && std::find(symbols.begin(), symbols.end(), 0) != symbols.end()) {
      refuse("a block without a scale has signs");
    }
    std::transform(symbols.begin(), symbols.end(), out.begin(),
                   [scale](std::uint8_t symbol) { return symbol == 1 ? scale : -scale; });
  }

  bool rms_;
};

struct SignOptions : config::Options {
  bool rms = false;
  void fields(config::Fields& fields) override {
    fields.boolean("rms", rms, "the root of the mean square as scale, not the mean magnitude");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  return std::make_unique<Sign>(dynamic_cast<const SignOptions&>(options).rms, blocks,
                                std::move(coder));
}

}  // namespace

CodecEntry sign() {
  return {.kind = {.name = "sign",
                   .summary = "1 bit a value and a scale a block",
                   .paper = "Karimireddy et al., ICML 2019 (arXiv 1901.09847)",
                   .make_options = [] { return std::make_unique<SignOptions>(); }},
          .promises = {.contractive = true},
          .promises_with =
              [](const config::Options& options) {
                return Promises{.contractive = !dynamic_cast<const SignOptions&>(options).rms};
              },
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

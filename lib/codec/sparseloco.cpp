// sparseloco: the 2-bit values of SparseLoCo (Sarfi, Therien, Lidin, Belilovsky, arXiv 2508.15706,
// by its code), for comparison: on values that topk left, two of its four levels hardly occur, and
// `sign` or `kmeans` is as exact in fewer bits (docs/codecs.md).
//
// With m and s the mean and the standard deviation of a block, the level of x is
// clamp(round((x - m) / (1.5 s) + 2), 0, 3); it decodes to the mean of the block's values of that
// level.
//
// Bytes: float32 mean of each of the four levels (of one that does not occur: 0), for every block
// that holds a value; then the levels.
//        16 * blocks + ceil(count / 4)
// Deviation from the code: m is in the means of the levels, not beside them (4 bytes less).

#include <algorithm>
#include <array>
#include <cmath>

#include "codec/codec.hpp"
#include "codec/detail/block_symbols.hpp"

namespace fedctl::codec {
namespace {

constexpr std::size_t kLevels = 4;

class SparseLoco final : public detail::BlockSymbols {
 public:
  SparseLoco(Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : BlockSymbols("sparseloco", kLevels, kLevels, blocks, std::move(coder)) {}

 private:
  void encode_block(std::span<const float> values, Rng&, std::span<float> parameters,
                    std::span<std::uint8_t> symbols) const override {
    const auto count = static_cast<double>(values.size());
    double mean = 0, squares = 0;
    for (const double value : values) mean += value / count;
    for (const double value : values) squares += (value - mean) * (value - mean);
    const double step = 1.5 * std::sqrt(squares / count);
    std::array<double, kLevels> sums{}, numbers{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double level = step > 0 ? std::floor((values[i] - mean) / step + 2.5) : 2;
      symbols[i] = static_cast<std::uint8_t>(std::clamp(level, 0.0, 3.0));
      sums[symbols[i]] += values[i];
      ++numbers[symbols[i]];
    }
    for (std::size_t level = 0; level < kLevels; ++level) {
      parameters[level] = numbers[level] > 0 ? static_cast<float>(sums[level] / numbers[level]) : 0;
    }
  }

  void decode_block(std::span<const float> parameters, std::span<const std::uint8_t> symbols,
                    std::span<float> out) const override {
    std::array<bool, kLevels> occurs{};
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      out[i] = parameters[symbols[i]];
      occurs[symbols[i]] = true;
    }
    for (std::size_t level = 0; level < kLevels; ++level) {
      if (!occurs[level] && parameters[level] != 0) refuse("a level without values has a mean");
    }
  }
};

struct SparseLocoOptions : config::Options {
  void fields(config::Fields&) override {}
};

std::unique_ptr<Codec> make_coded(const config::Options&, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  return std::make_unique<SparseLoco>(blocks, std::move(coder));
}

}  // namespace

CodecEntry sparseloco() {
  return {.kind = {.name = "sparseloco",
                   .summary = "2 bits a value, as SparseLoCo codes what top-k keeps",
                   .paper = "Sarfi et al., SparseLoCo, arXiv 2508.15706",
                   .make_options = [] { return std::make_unique<SparseLocoOptions>(); }},
          .promises = {.contractive = true},
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

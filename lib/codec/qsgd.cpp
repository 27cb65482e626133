// qsgd: uniform levels between 0 and the 2-norm of a bucket, with stochastic rounding (Alistarh,
// Grubic, Li, Tomioka, Vojnovic, NeurIPS 2017, section 3.1; fixed-width codes, or an entropy coder
// behind it, in place of the paper's Elias code). With few levels most codes say 0, which is what
// an entropy coder is for; quantize, with max |x| for the norm, has the smaller error.
//
// A block is cut into buckets of `bucket` values, the last one shorter. x becomes the level
// q in {-L, ..., L} whose expectation is x / norm * L, and decodes to q / L * norm.
//
// Bytes: float32 norm of every bucket, in order; then q + L of every value.
//        4 * buckets + ceil(count * bit_width(2 L) / 8)
// Error: E |decoded - x|^2 <= min(d / L^2, sqrt(d) / L) |x|^2 for d values a bucket; the
// expectation of the error is 0, up to float rounding. Draws a word a value.

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/codec.hpp"
#include "codec/detail/block_symbols.hpp"

namespace fedctl::codec {
namespace {

std::vector<BlockSize> buckets_of(Blocks blocks, std::size_t bucket) {
  std::vector<BlockSize> counts;
  for (std::size_t left : blocks) {
    for (; left > bucket; left -= bucket) counts.emplace_back(bucket);
    counts.emplace_back(left);
  }
  return counts;
}

class Qsgd final : public detail::BlockSymbols {
 public:
  Qsgd(int levels, Blocks buckets, std::unique_ptr<SymbolCoder> coder)
      : BlockSymbols("qsgd", static_cast<unsigned>(2 * levels + 1), 1, buckets, std::move(coder)),
        levels_(levels) {}

 private:
  void encode_block(std::span<const float> values, Rng& rng, std::span<float> parameters,
                    std::span<std::uint8_t> symbols) const override {
    double squares = 0;
    for (const double value : values) squares += value * value;
    // Any scale from max |x| on is unbiased, so a norm that is no float can be the largest float.
    const double norm = std::min(std::sqrt(squares), double{std::numeric_limits<float>::max()});
    parameters[0] = std::max(static_cast<float>(norm), detail::largest_magnitude(values));
    const double unit = parameters[0] > 0 ? levels_ / double{parameters[0]} : 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double noise = (rng.next_u32() + 0.5) * 0x1p-32;
      const int level = std::min(levels_, static_cast<int>(std::abs(values[i]) * unit + noise));
      symbols[i] = static_cast<std::uint8_t>(values[i] < 0 ? levels_ - level : levels_ + level);
    }
  }

  void decode_block(std::span<const float> parameters, std::span<const std::uint8_t> symbols,
                    std::span<float> out) const override {
    const float norm = parameters[0];
    expect_scale(norm);
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const int level = symbols[i] - levels_;
      if (norm == 0 && level != 0) refuse("a bucket without a norm has values");
      out[i] = static_cast<float>(level) / static_cast<float>(levels_) * norm;
    }
  }

  int levels_;  // L
};

struct QsgdOptions : config::Options {
  std::int64_t levels = 15;
  std::int64_t bucket = 512;
  void fields(config::Fields& fields) override {
    fields.integer("levels", levels, {.min = 1, .max = 127}, "levels above 0, and as many below");
    fields.integer("bucket", bucket, {.min = 1, .max = 1 << 30}, "values that share a norm");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const auto& own = dynamic_cast<const QsgdOptions&>(options);
  return std::make_unique<Qsgd>(static_cast<int>(own.levels),
                                buckets_of(blocks, static_cast<std::size_t>(own.bucket)),
                                std::move(coder));
}

}  // namespace

CodecEntry qsgd() {
  return {.kind = {.name = "qsgd",
                   .summary = "uniform levels of a bucket's 2-norm, unbiased",
                   .paper = "Alistarh et al., QSGD, NeurIPS 2017 (arXiv 1610.02132)",
                   .make_options = [] { return std::make_unique<QsgdOptions>(); }},
          .promises = {.unbiased = true},
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

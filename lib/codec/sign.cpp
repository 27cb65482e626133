// sign: one bit a value and a scale a block (Seide et al., Interspeech 2014; Karimireddy et al.,
// ICML 2019, arXiv 1901.09847, with the mean magnitude; Tang et al., 1-bit Adam, ICML 2021, arXiv
// 2102.02888, with the root of the mean square). Behind topk it is the ternary code of ComPEFT
// (Yadav, Choshen, Raffel, Bansal, arXiv 2311.13171) with the scale of least squared error.
//
// A block's scale is s = |x|_1 / n or |x|_2 / sqrt(n) (`rms: true`); x decodes to s
// or -s, 0 to s.
//
// Bytes: float32 s for every block that holds a value, in order; then a bit a value, 1 for minus,
// across blocks without a gap, by the coder behind it in the chain; without one lowest bit first,
// zero bits to the end of the byte.
//        4 * blocks + ceil(count / 8)
// Error: |x|^2 - |x|_1^2 / n a block with the mean magnitude: contractive. With the root of the
// mean square 2 |x|^2 (1 - |x|_1 / (sqrt(n) |x|_2)), |x|_1 / (sqrt(n) |x|_2)), more than |x|^2 if
// few values hold most of the norm: do not put it into error feedback then.

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/fixed_width.hpp"

namespace fedctl::codec {
namespace {

enum class Scale { l1, rms };

float scale_of(std::span<const float> values, Scale scale) {
  double sum = 0;
  for (const float value : values) {
    const auto x = static_cast<double>(value);
    sum += scale == Scale::l1 ? std::abs(x) : x * x;
  }
  const double mean = sum / static_cast<double>(values.size());
  const double wanted = scale == Scale::l1 ? mean : std::sqrt(mean);
  return static_cast<float>(
      std::min(wanted, static_cast<double>(std::numeric_limits<float>::max())));
}

class Sign final : public Codec {
 public:
  Sign(Scale scale, Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : scale_(scale), count_(detail::value_count(blocks)), coder_(std::move(coder)) {
    std::copy_if(blocks.begin(), blocks.end(), std::back_inserter(counts_),
                 [](std::size_t count) { return count > 0; });
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    return sizeof(float) * counts_.size() + coder_->max_encoded_bytes(count, 2);
  }

  Bytes encode(std::span<const float> values, Rng&) override {
    FEDCTL_ASSERT(values.size() == count_);
    detail::largest_magnitude(values);
    Bytes encoded;
    ByteWriter writer(encoded);
    std::size_t first = 0;
    for (const std::size_t count : counts_) {
      writer.number(scale_of(values.subspan(first, count), scale_));
      first += count;
    }
    std::vector<std::uint8_t> minus(count_);
    for (std::size_t i = 0; i < count_; ++i) minus[i] = values[i] < 0 ? 1 : 0;
    coder_->encode(minus, 2, encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    ByteReader reader(encoded);
    std::vector<float> scales;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      scales.push_back(reader.number<float>());
      if (!std::isfinite(scales.back()) || std::signbit(scales.back())) {
        throw WireError("sign: the scale of block " + std::to_string(i) + " is " +
                        std::to_string(scales.back()) + ", expected finite and not negative");
      }
    }
    std::vector<std::uint8_t> minus(count_);
    ByteView rest = reader.raw(reader.left());
    coder_->decode(rest, 2, minus);
    detail::expect_bytes("behind the bits of sign", rest, 0);
    std::size_t at = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      for (std::size_t end = at + counts_[i]; at < end; ++at) {
        out[at] = minus[at] == 1 ? -scales[i] : scales[i];
      }
    }
  }

 private:
  Scale scale_;
  std::size_t count_;                // values in all blocks
  std::vector<std::size_t> counts_;  // values of each block, none 0
  std::unique_ptr<SymbolCoder> coder_;
};

struct SignOptions : config::Options {
  bool rms = false;
  void fields(config::Fields& fields) override {
    fields.boolean("rms", rms, "the root of the mean square as scale, not the mean magnitude");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const bool rms = dynamic_cast<const SignOptions&>(options).rms;
  return std::make_unique<Sign>(rms ? Scale::rms : Scale::l1, blocks, std::move(coder));
}

}  // namespace

CodecEntry sign() {
  return {.kind = {.name = "sign",
                   .summary = "1 bit a value and a scale a block; behind topk a ternary code",
                   .paper = "Karimireddy et al., ICML 2019 (arXiv 1901.09847); ComPEFT, arXiv "
                            "2311.13171",
                   .make_options = [] { return std::make_unique<SignOptions>(); }},
          .promises = {.contractive = true},
          .make =
              [](const config::Options& options, Blocks blocks) {
                return make_coded(options, blocks, std::make_unique<detail::FixedWidth>());
              },
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

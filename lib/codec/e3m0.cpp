// e3m0: 4-bit floats without a mantissa (Douillard et al., "Streaming DiLoCo", arXiv 2501.18512,
// section 2.3): a sign and one of seven powers of two, or 0.
//
// Unconfirmed: the paper gives no scale. Here s = max |x| / 16 a block, and the magnitudes are 0
// and 2^-2 s to 2^4 s, the nearest of which stands for a value; of two equally near the smaller.
//
// Bytes: float32 max |x| for every block that holds a value, in order; then four bits a value, the
// first in the lower half of a byte, across blocks without a gap, by the coder behind it in the
// chain. The code is 7 for 0, 7 + e for the e-th magnitude (1 to 7), 7 - e for its negative; 15 is
// not used.
//        4 * blocks + ceil(count / 2)
// Error: a third of |x| at most, or s / 8 for the smallest; contractive.

#include <array>
#include <cmath>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/fixed_width.hpp"

namespace fedctl::codec {
namespace {

constexpr unsigned kAlphabet = 15;
constexpr int kZero = 7;
// Of the block's largest magnitude.
constexpr std::array<float, 8> kMagnitudes = {0,       0x1p-6F, 0x1p-5F, 0x1p-4F,
                                              0x1p-3F, 0x1p-2F, 0x1p-1F, 1};

std::uint8_t code_of(float value, float largest) {
  const float share = largest > 0 ? std::abs(value) / largest : 0;
  int magnitude = 0;
  for (std::size_t i = 1; i < kMagnitudes.size(); ++i) {
    if (share > (kMagnitudes[i - 1] + kMagnitudes[i]) / 2) ++magnitude;
  }
  return static_cast<std::uint8_t>(value < 0 ? kZero - magnitude : kZero + magnitude);
}

class E3m0 final : public Codec {
 public:
  E3m0(Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : count_(detail::value_count(blocks)), coder_(std::move(coder)) {
    for (const std::size_t count : blocks) {
      if (count > 0) counts_.push_back(count);
    }
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    return sizeof(float) * counts_.size() + coder_->max_encoded_bytes(count, kAlphabet);
  }

  Bytes encode(std::span<const float> values, Rng&) override {
    FEDCTL_ASSERT(values.size() == count_);
    Bytes encoded;
    ByteWriter writer(encoded);
    std::vector<std::uint8_t> codes(count_);
    std::size_t at = 0;
    for (const std::size_t count : counts_) {
      const float largest = detail::largest_magnitude(values.subspan(at, count), at);
      writer.number(largest);
      for (const std::size_t end = at + count; at < end; ++at) {
        codes[at] = code_of(values[at], largest);
      }
    }
    coder_->encode(codes, kAlphabet, encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    ByteReader reader(encoded);
    std::vector<float> scales;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      scales.push_back(reader.number<float>());
      if (!std::isfinite(scales.back()) || std::signbit(scales.back())) {
        throw WireError("e3m0: the scale of block " + std::to_string(i) + " is " +
                        std::to_string(scales.back()) + ", expected finite and not negative");
      }
    }
    std::vector<std::uint8_t> codes(count_);
    ByteView rest = reader.raw(reader.left());
    coder_->decode(rest, kAlphabet, codes);
    detail::expect_bytes("behind the codes of e3m0", rest, 0);
    std::size_t at = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      for (const std::size_t end = at + counts_[i]; at < end; ++at) {
        const int code = codes[at] - kZero;
        const float size = kMagnitudes[static_cast<std::size_t>(std::abs(code))] * scales[i];
        out[at] = code < 0 ? -size : size;
      }
    }
  }

 private:
  std::size_t count_;                // values in all blocks
  std::vector<std::size_t> counts_;  // values of each block, none 0
  std::unique_ptr<SymbolCoder> coder_;
};

struct E3m0Options : config::Options {
  void fields(config::Fields&) override {}
};

}  // namespace

CodecEntry e3m0() {
  return {.kind = {.name = "e3m0",
                   .summary = "4 bits a value: a sign and a power of two, and a scale a block",
                   .paper = "Douillard et al., Streaming DiLoCo, arXiv 2501.18512",
                   .make_options = [] { return std::make_unique<E3m0Options>(); }},
          .promises = {.contractive = true},
          .make = [](const config::Options&, Blocks blocks) -> std::unique_ptr<Codec> {
            return std::make_unique<E3m0>(blocks, std::make_unique<detail::FixedWidth>());
          },
          .make_coded = [](const config::Options&, Blocks blocks,
                           std::unique_ptr<SymbolCoder> coder) -> std::unique_ptr<Codec> {
            return std::make_unique<E3m0>(blocks, std::move(coder));
          }};
}

}  // namespace fedctl::codec

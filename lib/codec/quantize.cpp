// quantize: symmetric uniform levels with one scale a block and stochastic rounding (QSGD:
// Alistarh, Grubic, Li, Tomioka, Vojnovic, NeurIPS 2017, section 3.1, with the largest magnitude in
// place of the 2-norm; fixed-width codes unless an entropy coder follows).
//
// A block's scale s is max |x|; with L = 2^(bits-1) - 1 a value becomes the level q in {-L, ..., L}
// whose expectation is x / s * L, and decodes to q / L * s. The 2^bits - 1 levels are symmetric
// about 0, so the code 2^bits - 1 is never used.
//
// Bytes: float32 s for every block that holds a value, in order; then q + L of every value, across
// blocks without a gap, by the coder behind it in the chain; without one `bits` bits each, lowest
// bit first, zero bits to the end of the byte.
//        4 * blocks + ceil(count * bits / 8)
// Error: less than s / L a value; zeros and values of magnitude s are exact. Expectation of the
// error: 0, up to 2^-17 of a level. Draws ceil(count / 2) words a block.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

// Codes of one block. Rounding is in fixed point with 16 bits behind the point: the value, as a
// whole number of 1/65536 levels, plus a uniform 16-bit number, shifted down; a float sum would
// round up near the top level. |x / s * L * 65536| < 2^23, so adding the half is exact, too.
void round_block(std::span<const float> values, float scale, std::int32_t level_max,
                 std::span<std::uint8_t> codes, Rng& rng) {
  constexpr std::size_t kChunk = 512;
  std::array<std::uint32_t, kChunk / 2> words;
  std::array<std::uint16_t, kChunk> noise;
  const float divisor = scale > 0 ? scale : 1;  // 1 / scale may overflow, a quotient cannot
  const auto units = static_cast<float>(level_max * 65536);
  for (std::size_t first = 0; first < values.size(); first += kChunk) {
    const auto chunk = values.subspan(first, std::min(kChunk, values.size() - first));
    std::uint8_t* const chunk_codes = codes.data() + first;
    for (std::size_t i = 0; i < (chunk.size() + 1) / 2; ++i) words[i] = rng.next_u32();
    std::memcpy(noise.data(), words.data(), sizeof(std::uint16_t) * chunk.size());
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      const float exact = chunk[i] / divisor * units;
      const auto fixed = static_cast<std::int32_t>(exact + std::copysign(0.5F, exact));
      chunk_codes[i] = static_cast<std::uint8_t>((fixed + level_max * 65536 + noise[i]) >> 16);
    }
  }
}

// The reverse. Throws WireError on codes that round_block() cannot write: those of a block whose
// largest magnitude is not at either end.
void restore_block(std::span<const std::uint8_t> codes, float scale, std::int32_t level_max,
                   std::span<float> out) {
  std::uint8_t lowest = 255;
  std::uint8_t highest = 0;
  for (const std::uint8_t code : codes) {
    lowest = std::min(lowest, code);
    highest = std::max(highest, code);
  }
  const bool reaches_end = lowest == 0 || highest == 2 * level_max;
  const bool all_zero = lowest == level_max && highest == level_max;
  if (scale > 0 ? !reaches_end : !all_zero) {
    throw WireError("quantize: the codes of a block do not fit its scale");
  }
  const auto top = static_cast<float>(level_max);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    out[i] = static_cast<float>(codes[i] - level_max) / top * scale;
  }
}

class Quantize final : public Codec {
 public:
  Quantize(unsigned bits, Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : level_max_((1 << (bits - 1)) - 1),
        count_(detail::value_count(blocks)),
        counts_(detail::filled(blocks)),
        coder_(std::move(coder)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    return sizeof(float) * counts_.size() + coder_->max_encoded_bytes(count, alphabet());
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    Bytes encoded;
    encoded.reserve(max_encoded_bytes(count_));
    ByteWriter writer(encoded);
    std::vector<std::uint8_t> codes(count_);
    std::size_t first = 0;
    for (const std::size_t count : counts_) {
      const float scale = detail::largest_magnitude(values.subspan(first, count), first);
      writer.number(scale);
      round_block(values.subspan(first, count), scale, level_max_,
                  std::span(codes).subspan(first, count), rng);
      first += count;
    }
    coder_->encode(codes, alphabet(), encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    ByteReader reader(encoded);
    std::vector<float> scales;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      scales.push_back(reader.number<float>());
      if (!std::isfinite(scales.back()) || std::signbit(scales.back())) {
        throw WireError("quantize: the scale of block " + std::to_string(i) + " is " +
                        std::to_string(scales.back()) + ", expected finite and not negative");
      }
    }
    std::vector<std::uint8_t> codes(count_);
    ByteView rest = reader.raw(reader.left());
    coder_->decode(rest, alphabet(), codes);
    detail::expect_bytes("behind the codes of quantize", rest, 0);
    std::size_t first = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      restore_block(std::span(codes).subspan(first, counts_[i]), scales[i], level_max_,
                    out.subspan(first, counts_[i]));
      first += counts_[i];
    }
  }

 private:
  unsigned alphabet() const { return static_cast<unsigned>(2 * level_max_ + 1); }

  std::int32_t level_max_;           // L
  std::size_t count_;                // values in all blocks
  std::vector<std::size_t> counts_;  // values of each block, none 0
  std::unique_ptr<SymbolCoder> coder_;
};

struct QuantizeOptions : config::Options {
  std::int64_t bits = 8;
  void fields(config::Fields& fields) override {
    fields.integer("bits", bits, {.min = 2, .max = 8}, "bits a value; 2^bits - 1 levels");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const auto bits = dynamic_cast<const QuantizeOptions&>(options).bits;
  return std::make_unique<Quantize>(static_cast<unsigned>(bits), blocks, std::move(coder));
}

}  // namespace

CodecEntry quantize() {
  return {.kind = {.name = "quantize",
                   .summary = "2 to 8 bits a value and a scale a block, unbiased",
                   .paper = "Alistarh et al., QSGD, NeurIPS 2017 (arXiv 1610.02132)",
                   .make_options = [] { return std::make_unique<QuantizeOptions>(); }},
          .promises = {.unbiased = true},
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

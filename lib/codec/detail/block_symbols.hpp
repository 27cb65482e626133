// What quantizers to a small alphabet share: a few float32 parameters a block, then the symbol of
// every value, by the coder behind the quantizer.
//
// Bytes: `parameters` float32 numbers for every block that holds a value, in order; then the
// symbols of all values, across blocks without a gap.
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec::detail {

class BlockSymbols : public Codec {
 public:
  // `name` is for messages and must outlive the codec.
  BlockSymbols(const char* name, unsigned alphabet, std::size_t parameters, Blocks blocks,
               std::unique_ptr<SymbolCoder> coder)
      : name_(name),
        alphabet_(alphabet),
        parameters_(parameters),
        count_(value_count(blocks)),
        counts_(filled(blocks)),
        coder_(std::move(coder)) {}

  std::size_t max_encoded_bytes(std::size_t count) const final {
    return sizeof(float) * parameters_ * counts_.size() +
           coder_->max_encoded_bytes(count, alphabet_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) final {
    FEDCTL_ASSERT(values.size() == count_);
    largest_magnitude(values);
    Bytes encoded;
    encoded.reserve(max_encoded_bytes(count_));
    ByteWriter writer(encoded);
    std::vector<std::uint8_t> symbols(count_);
    std::vector<float> parameters(parameters_);
    std::size_t first = 0;
    for (const std::size_t count : counts_) {
      encode_block(values.subspan(first, count), rng, parameters,
                   std::span(symbols).subspan(first, count));
      for (const float parameter : parameters) writer.number(parameter);
      first += count;
    }
    coder_->encode(symbols, alphabet_, encoded);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const final {
    FEDCTL_ASSERT(out.size() == count_);
    ByteReader reader(encoded);
    std::vector<float> parameters;
    for (std::size_t i = 0; i < counts_.size() * parameters_; ++i) {
      parameters.push_back(reader.number<float>());
      if (!std::isfinite(parameters.back())) refuse("a scale is not finite");
    }
    std::vector<std::uint8_t> symbols(count_);
    ByteView rest = reader.raw(reader.left());
    coder_->decode(rest, alphabet_, symbols);
    expect_bytes(name_, rest, 0);
    std::size_t first = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      decode_block(std::span(parameters).subspan(i * parameters_, parameters_),
                   std::span(symbols).subspan(first, counts_[i]), out.subspan(first, counts_[i]));
      first += counts_[i];
    }
  }

 protected:
  [[noreturn]] void refuse(const std::string& what) const {
    throw WireError(std::string(name_) + ": " + what);
  }
  void expect_scale(float scale) const {
    if (std::signbit(scale)) refuse("a scale is negative");
  }

 private:
  // `values` are finite and not empty. Fills the others.
  virtual void encode_block(std::span<const float> values, Rng& rng, std::span<float> parameters,
                            std::span<std::uint8_t> symbols) const = 0;
  // Fills `out` with finite values; throws WireError on what encode_block() could not have made.
  // The parameters are finite, the symbols below the alphabet.
  virtual void decode_block(std::span<const float> parameters,
                            std::span<const std::uint8_t> symbols, std::span<float> out) const = 0;

  const char* name_;
  unsigned alphabet_;
  std::size_t parameters_;           // numbers a block
  std::size_t count_;                // values in all blocks
  std::vector<std::size_t> counts_;  // values of each block, none 0
  std::unique_ptr<SymbolCoder> coder_;
};

}  // namespace fedctl::codec::detail

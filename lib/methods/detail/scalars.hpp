// How the methods that send numbers for seeds write these numbers: a codec of the registry that
// gives every value bytes of its own, so that a number is read alike wherever it stands.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "wire/message.hpp"

namespace fedctl::methods {

class ScalarCode {
 public:
  // float32, float16 or byte (codec logbyte, unbiased).
  explicit ScalarCode(const std::string& name);
  static void field(config::Fields& fields, std::string& name);

  std::size_t width() const { return width_; }  // bytes a number
  // width() bytes for each. Precondition: all finite.
  Bytes encode(std::span<const float> values, const Rng& rng) const;
  // Throws WireError on bytes that encode() could not have written, and unless they are width() for
  // each of `count`.
  std::vector<float> decode(ByteView bytes, std::size_t count) const;

 private:
  std::size_t width_;
  std::unique_ptr<codec::Codec> codec_;  // none: float32
};

// Bytes as a tensor u8 [n], and those of a received message; throws ProtocolError if it has none.
Tensor tensor_of(Bytes bytes);
ByteView bytes_in(const wire::Message& message, const std::string& name);

// Numbers below 65536, two bytes each, little-endian.
Bytes words_of(std::span<const std::size_t> numbers);
// Throws ProtocolError unless the bytes are such numbers, all below `bound`.
std::vector<std::size_t> words_in(ByteView bytes, std::size_t bound);

}  // namespace fedctl::methods

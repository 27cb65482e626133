// Exact values: the end of a chain without a quantizer.
#pragma once

#include <cstring>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec::detail {

class Float32 final : public Codec {
 public:
  std::size_t max_encoded_bytes(std::size_t count) const override { return sizeof(float) * count; }

  Bytes encode(std::span<const float> values, Rng&) override {
    largest_magnitude(values);
    const ByteView bytes = std::as_bytes(values);
    return {bytes.begin(), bytes.end()};
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    expect_bytes("float32", encoded, out.size_bytes());
    if (out.empty()) return;
    std::memcpy(out.data(), encoded.data(), out.size_bytes());
    largest_magnitude(out);
  }
};

}  // namespace fedctl::codec::detail

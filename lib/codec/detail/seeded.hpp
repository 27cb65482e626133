// What codecs share that draw a projection from a seed: the seed, then the projected values as the
// codec behind them codes them. No values, no bytes.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec::detail {

class Seeded : public Codec {
 public:
  // `name` is for messages and must outlive the codec. `projected`: values that are handed on.
  Seeded(const char* name, std::size_t count, std::size_t projected, std::unique_ptr<Codec> next)
      : name_(name), count_(count), projected_(projected), next_(std::move(next)) {}

  std::size_t max_encoded_bytes(std::size_t count) const final {
    FEDCTL_ASSERT(count == count_);
    return count == 0 ? 0 : sizeof(std::uint64_t) + next_->max_encoded_bytes(projected_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) final {
    FEDCTL_ASSERT(values.size() == count_);
    largest_magnitude(values);
    Bytes encoded;
    if (count_ == 0) return encoded;
    ByteWriter writer(encoded);
    const std::uint64_t seed = rng.next_u64();
    writer.number(seed);
    writer.raw(next_->encode(project(seed, values), rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const final {
    FEDCTL_ASSERT(out.size() == count_);
    if (count_ == 0) return expect_bytes(name_, encoded, 0);
    ByteReader reader(encoded);
    const auto seed = reader.number<std::uint64_t>();
    std::vector<float> coded(projected_);
    next_->decode(reader.raw(reader.left()), coded);
    expand(seed, coded, out);
  }

 protected:
  std::size_t count() const { return count_; }
  std::size_t projected() const { return projected_; }

 private:
  // count() values to projected() of them, all finite, and back; count() > 0.
  virtual std::vector<float> project(std::uint64_t seed, std::span<const float> values) const = 0;
  virtual void expand(std::uint64_t seed, std::span<const float> coded,
                      std::span<float> out) const = 0;

  const char* name_;
  std::size_t count_, projected_;
  std::unique_ptr<Codec> next_;
};

}  // namespace fedctl::codec::detail

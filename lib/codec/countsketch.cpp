// countsketch: s = max(1, round(ratio * count)) sums of values with random signs; a value decodes
// to its sum times its sign, which is right on average (Charikar, Chen, Farach-Colton, ICALP 2002;
// as a linear sketch of updates: Song, Wang, Yu, Zhang, ICML 2023, arXiv 2210.08371, section 3).
//
// Bytes: u64 seed; then the s sums as the codec behind this one codes them, float32 if there is
// none. No values, no bytes.
//        8 + bytes of s values
// Value j belongs to sum (w >> 32) s >> 32 with sign + if the lowest bit of w is 1, w being word j
// (from 0) of SplitMix64 from state seed. A sum beyond the largest float becomes that.
// Error: E |decoded - x|^2 = (n - 1) / s |x|^2: more than randk's or rotate and randk's; what it
// has over them is that a value's position costs nothing when sketches are added under one seed.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t word = seed + (index + 1) * 0x9e37'79b9'7f4a'7c15U;
  word = (word ^ (word >> 30)) * 0xbf58'476d'1ce4'e5b9U;
  word = (word ^ (word >> 27)) * 0x94d0'49bb'1331'11ebU;
  return word ^ (word >> 31);
}

class CountSketch final : public Codec {
 public:
  CountSketch(std::size_t count, std::size_t sums, std::unique_ptr<Codec> next)
      : count_(count), sums_(sums), next_(std::move(next)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return count == 0 ? 0 : sizeof(std::uint64_t) + next_->max_encoded_bytes(sums_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    detail::largest_magnitude(values);
    Bytes encoded;
    if (count_ == 0) return encoded;
    ByteWriter writer(encoded);
    const std::uint64_t seed = rng.next_u64();
    writer.number(seed);
    std::vector<double> sums(sums_);
    for (std::size_t i = 0; i < count_; ++i) {
      const Place place = place_of(seed, i);
      sums[place.sum] += place.plus ? values[i] : -values[i];
    }
    const double kMax = std::numeric_limits<float>::max();
    std::vector<float> sketch(sums_);
    std::transform(sums.begin(), sums.end(), sketch.begin(),
                   [kMax](double sum) { return static_cast<float>(std::clamp(sum, -kMax, kMax)); });
    writer.raw(next_->encode(sketch, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    if (count_ == 0) return detail::expect_bytes("countsketch", encoded, 0);
    ByteReader reader(encoded);
    const auto seed = reader.number<std::uint64_t>();
    std::vector<float> sketch(sums_);
    next_->decode(reader.raw(reader.left()), sketch);
    for (std::size_t i = 0; i < count_; ++i) {
      const Place place = place_of(seed, i);
      out[i] = place.plus ? sketch[place.sum] : -sketch[place.sum];
    }
  }

 private:
  struct Place {
    std::size_t sum;
    bool plus;
  };
  Place place_of(std::uint64_t seed, std::size_t index) const {
    const std::uint64_t word = splitmix64(seed, index);
    return {static_cast<std::size_t>((word >> 32) * sums_ >> 32), (word & 1) != 0};
  }

  std::size_t count_;
  std::size_t sums_;  // below 2^32
  std::unique_ptr<Codec> next_;
};

struct CountSketchOptions : config::Options {
  double ratio = 0.25;
  void fields(config::Fields& fields) override {
    fields.real("ratio", ratio, {.above = 0, .max = 1}, "sums sent, as a share of the values");
  }
};

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  const double ratio = dynamic_cast<const CountSketchOptions&>(options).ratio;
  const std::size_t count = detail::value_count(blocks);
  const auto rounded = static_cast<std::size_t>(std::llround(ratio * static_cast<double>(count)));
  const std::array<BlockSize, 1> sums = {std::min(count, std::max<std::size_t>(1, rounded))};
  return std::make_unique<CountSketch>(count, sums[0], next(sums));
}

}  // namespace

CodecEntry countsketch() {
  return {.kind = {.name = "countsketch",
                   .summary = "sums of values with random signs, unbiased",
                   .paper = "Charikar et al., ICALP 2002; Song et al., arXiv 2210.08371",
                   .make_options = [] { return std::make_unique<CountSketchOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.unbiased = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec

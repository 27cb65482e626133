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
#include <limits>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/seeded.hpp"
#include "codec/detail/splitmix64.hpp"

namespace fedctl::codec {
namespace {

class CountSketch final : public detail::Seeded {
 public:
  // Fewer than 2^32 sums.
  CountSketch(std::size_t count, std::size_t sums, std::unique_ptr<Codec> next)
      : Seeded("countsketch", count, sums, std::move(next)) {}

 private:
  std::vector<float> project(std::uint64_t seed, std::span<const float> values) const override {
    std::vector<double> sums(projected());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Place place = place_of(seed, i);
      sums[place.sum] += place.plus ? values[i] : -values[i];
    }
    const double kMax = std::numeric_limits<float>::max();
    std::vector<float> sketch(sums.size());
    std::transform(sums.begin(), sums.end(), sketch.begin(),
                   [kMax](double sum) { return static_cast<float>(std::clamp(sum, -kMax, kMax)); });
    return sketch;
  }

  void expand(std::uint64_t seed, std::span<const float> coded,
              std::span<float> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const Place place = place_of(seed, i);
      out[i] = place.plus ? coded[place.sum] : -coded[place.sum];
    }
  }

  struct Place {
    std::size_t sum;
    bool plus;
  };
  Place place_of(std::uint64_t seed, std::size_t index) const {
    const std::uint64_t word = detail::splitmix64(seed, index);
    return {static_cast<std::size_t>((word >> 32) * projected() >> 32), (word & 1) != 0};
  }
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
  const std::array<BlockSize, 1> sums = {detail::share_of(ratio, count)};
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

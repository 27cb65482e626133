// randk: keeps k = max(1, round(ratio * count)) values at random positions, which the receiver
// draws from the same seed; the others decode to 0. The kept ones decode to count / k times their
// value, which is right on average, or, with `unbiased: false`, to what they are (Konecny,
// Richtarik, "Randomized distributed mean estimation", arXiv 1611.07555; Stich, Cordonnier, Jaggi,
// NeurIPS 2018). Behind rotate it is the sketch SRHT: z = sqrt(n / k) S H D x, decoded by the
// transpose (Song, Wang, Yu, Zhang, ICML 2023, arXiv 2210.08371, section 3).
//
// Bytes: u64 seed; then the k values, in order of position, as the codec behind this one codes
// them, float32 if there is none. No values, no bytes.
//        8 + bytes of k values
// Error: E |decoded - x|^2 = (n / k - 1) |x|^2; with `unbiased: false` (1 - k / n) |x|^2.
// Positions: Floyd's sample (Bentley, CACM 30, 1987) of the smaller of the kept and the dropped,
// with Rng(seed).below(). Products beyond the largest float become that.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec {
namespace {

class Randk final : public Codec {
 public:
  Randk(std::size_t count, std::size_t kept, bool unbiased, std::unique_ptr<Codec> values)
      : count_(count),
        kept_(kept),
        scale_(unbiased && kept > 0 ? static_cast<double>(count) / static_cast<double>(kept) : 1),
        values_(std::move(values)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return count == 0 ? 0 : sizeof(std::uint64_t) + values_->max_encoded_bytes(kept_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    detail::largest_magnitude(values);
    Bytes encoded;
    if (count_ == 0) return encoded;
    ByteWriter writer(encoded);
    const std::uint64_t seed = rng.next_u64();
    writer.number(seed);
    const std::vector<std::uint8_t> kept = support(seed);
    std::vector<float> chosen;
    chosen.reserve(kept_);
    for (std::size_t i = 0; i < count_; ++i) {
      if (kept[i] != 0) chosen.push_back(values[i]);
    }
    writer.raw(values_->encode(chosen, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    if (count_ == 0) return detail::expect_bytes("randk", encoded, 0);
    ByteReader reader(encoded);
    const std::vector<std::uint8_t> kept = support(reader.number<std::uint64_t>());
    std::vector<float> chosen(kept_);
    values_->decode(reader.raw(reader.left()), chosen);
    constexpr double kMax = std::numeric_limits<float>::max();
    auto next = chosen.begin();
    for (std::size_t i = 0; i < count_; ++i) {
      out[i] = kept[i] != 0 ? static_cast<float>(std::clamp(*next++ * scale_, -kMax, kMax)) : 0;
    }
  }

 private:
  // 1 where a value is kept.
  std::vector<std::uint8_t> support(std::uint64_t seed) const {
    const std::uint8_t drawn = kept_ <= count_ / 2 ? 1 : 0;
    const std::size_t draws = drawn == 1 ? kept_ : count_ - kept_;
    std::vector<std::uint8_t> kept(count_, static_cast<std::uint8_t>(1 - drawn));
    Rng rng(seed);
    for (std::size_t last = count_ - draws; last < count_; ++last) {
      const auto at = static_cast<std::size_t>(rng.below(last + 1));
      kept[kept[at] == drawn ? last : at] = drawn;
    }
    return kept;
  }

  std::size_t count_;
  std::size_t kept_;
  double scale_;
  std::unique_ptr<Codec> values_;
};

struct RandkOptions : config::Options {
  double ratio = 0.1;
  bool unbiased = true;
  void fields(config::Fields& fields) override {
    fields.real("ratio", ratio, {.above = 0, .max = 1}, "share of the values that are kept");
    fields.boolean("unbiased", unbiased, "right on average; false: the smallest error");
  }
};

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  const auto& own = dynamic_cast<const RandkOptions&>(options);
  const std::size_t count = detail::value_count(blocks);
  const auto rounded =
      static_cast<std::size_t>(std::llround(own.ratio * static_cast<double>(count)));
  const std::array<BlockSize, 1> kept = {std::min(count, std::max<std::size_t>(1, rounded))};
  return std::make_unique<Randk>(count, kept[0], own.unbiased, next(kept));
}

}  // namespace

CodecEntry randk() {
  return {.kind = {.name = "randk",
                   .summary = "values at random positions that a seed gives, unbiased",
                   .paper = "Konecny, Richtarik, arXiv 1611.07555",
                   .make_options = [] { return std::make_unique<RandkOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.unbiased = true},
          .promises_with =
              [](const config::Options& options) {
                const bool unbiased = dynamic_cast<const RandkOptions&>(options).unbiased;
                return Promises{.unbiased = unbiased, .contractive = !unbiased};
              },
          .make_before = make_before};
}

}  // namespace fedctl::codec

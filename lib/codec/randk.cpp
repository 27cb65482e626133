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
#include <limits>

#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/seeded.hpp"

namespace fedctl::codec {
namespace {

class Randk final : public detail::Seeded {
 public:
  Randk(std::size_t count, std::size_t kept, bool unbiased, std::unique_ptr<Codec> next)
      : Seeded("randk", count, kept, std::move(next)),
        scale_(unbiased && kept > 0 ? static_cast<double>(count) / static_cast<double>(kept) : 1) {}

 private:
  std::vector<float> project(std::uint64_t seed, std::span<const float> values) const override {
    const std::vector<std::uint8_t> kept = support(seed);
    std::vector<float> chosen;
    chosen.reserve(projected());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (kept[i] != 0) chosen.push_back(values[i]);
    }
    return chosen;
  }

  void expand(std::uint64_t seed, std::span<const float> coded,
              std::span<float> out) const override {
    const std::vector<std::uint8_t> kept = support(seed);
    constexpr double kMax = std::numeric_limits<float>::max();
    auto next = coded.begin();
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = kept[i] != 0 ? static_cast<float>(std::clamp(*next++ * scale_, -kMax, kMax)) : 0;
    }
  }

  // 1 where a value is kept.
  std::vector<std::uint8_t> support(std::uint64_t seed) const {
    const std::uint8_t drawn = projected() <= count() / 2 ? 1 : 0;
    const std::size_t draws = drawn == 1 ? projected() : count() - projected();
    std::vector<std::uint8_t> kept(count(), static_cast<std::uint8_t>(1 - drawn));
    Rng rng(seed);
    for (std::size_t last = count() - draws; last < count(); ++last) {
      const auto at = static_cast<std::size_t>(rng.below(last + 1));
      kept[kept[at] == drawn ? last : at] = drawn;
    }
    return kept;
  }

  double scale_;
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
  const std::array<BlockSize, 1> kept = {detail::share_of(own.ratio, count)};
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

// auto with a step for every block that holds a value, by L-GreCo (Alimohammadi, Markov, Frantar,
// Alistarh, MLSys 2024, arXiv 2210.17357): those with the fewest bits whose errors |x - decoded|
// add up to no more than with one step; the errors, not their squares, which favours small blocks.
// The sender chooses, from what it sends, so nothing is broadcast.
//
// Bytes: a byte for every block that holds a value, 0 to 8: its values are divided by
// 2^((byte - 4) / 2) before they become levels; then those of auto (adaptive.cpp).
// Deviation from the paper: there the server chooses from past updates.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/detail/adaptive.hpp"
#include "codec/detail/allocation.hpp"
#include "codec/detail/checks.hpp"

namespace fedctl::codec::detail {
namespace {

// Half octaves: the square root of 2 is the same float on every machine.
constexpr std::array<float, 9> kFactors = {0.25F, 0.35355338F, 0.5F, 0.70710677F, 1, 1.4142135F,
                                           2,     2.8284271F,  4};
constexpr std::size_t kStandard = 4;

// A step for every block, by L-GreCo: a block's values are divided by its factor.
class Allocated final : public Codec {
 public:
  Allocated(Blocks blocks, Target target)
      : counts_(filled(blocks)),
        inner_(make_adaptive(value_count(blocks), target)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    return counts_.size() + inner_->max_encoded_bytes(count);
  }

  Bytes encode(std::span<const float> values, Rng&) override {
    Bytes shortest;
    const float step = inner_->fit(values, counts_.size(), shortest);
    std::vector<std::size_t> chosen(counts_.size(), kStandard);
    const std::vector<std::size_t> allocated = allocate(values, step);
    Bytes other = inner_->encode_at(scaled(values, allocated), step);
    if (other.size() < shortest.size()) {
      shortest = std::move(other);
      chosen = allocated;
    }
    Bytes encoded;
    ByteWriter writer(encoded);
    for (const std::size_t setting : chosen) writer.number(static_cast<std::uint8_t>(setting));
    writer.raw(shortest);
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    ByteReader reader(encoded);
    std::vector<std::size_t> chosen;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      chosen.push_back(reader.number<std::uint8_t>());
      if (chosen.back() >= kFactors.size()) throw WireError("auto: a block has an unknown factor");
    }
    inner_->decode(reader.raw(reader.left()), out);
    constexpr float kMax = std::numeric_limits<float>::max();
    float* value = out.data();
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      for (std::size_t k = 0; k < counts_[i]; ++k, ++value) {
        *value = std::clamp(*value * kFactors[chosen[i]], -kMax, kMax);
      }
    }
  }

 private:
  std::vector<std::size_t> allocate(std::span<const float> values, float step) const {
    if (step == 0) return std::vector<std::size_t>(counts_.size(), kStandard);
    std::vector<Costs> costs;
    std::size_t first = 0;
    for (const std::size_t count : counts_) {
      const auto block = values.subspan(first, count);
      std::vector<std::int32_t> levels(count);
      Costs& cost = costs.emplace_back();
      const float largest = largest_magnitude(block);
      for (const float factor : kFactors) {
        const float own = step * factor;
        // Finer than what levels can be, or beyond floats.
        const bool usable = factor == 1 || (std::isnormal(own) && std::isfinite(largest / factor) &&
                                            largest / own <= 0x1p22F);
        if (!usable) {
          cost.error.push_back(HUGE_VAL);
          cost.size.push_back(0);
          continue;
        }
        to_levels(block, own, levels);
        cost.error.push_back(std::sqrt(lost_by(block, levels, own).squares) * own);
        cost.size.push_back(size_of(levels, low_bits_of(levels)).bits_q16);
      }
      first += count;
    }
    return detail::allocate(costs, kStandard);
  }

  std::vector<float> scaled(std::span<const float> values,
                            std::span<const std::size_t> chosen) const {
    std::vector<float> divided(values.begin(), values.end());
    float* value = divided.data();
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      for (std::size_t k = 0; k < counts_[i]; ++k) *value++ /= kFactors[chosen[i]];
    }
    return divided;
  }

  std::vector<std::size_t> counts_;  // of the blocks, none 0
  std::unique_ptr<StepCodec> inner_;
};

}  // namespace

std::unique_ptr<Codec> make_allocated(Blocks blocks, Target target) {
  return std::make_unique<Allocated>(blocks, target);
}

}  // namespace fedctl::codec::detail

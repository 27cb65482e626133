// topk: keeps the k = max(1, round(ratio * count)) values of largest magnitude, of equals the
// first; the others decode to 0 (Aji and Heafield, "Sparse communication for distributed gradient
// descent", EMNLP 2017; Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018).
//
// Bytes: the k positions (codec/detail/positions.hpp), then the k values, in order of position, as
// the codec behind this one in the chain codes them, float32 if there is none.
//        1 + ceil((k * (1 + r) + sum of (gap >> r)) / 8) + bytes of k values
// Error: |decoded - x|^2 <= (1 - k / count) |x|^2 without a codec behind it.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/detail/checks.hpp"
#include "codec/detail/float32.hpp"
#include "codec/detail/positions.hpp"

namespace fedctl::codec {
namespace {

// Positions of the k largest magnitudes, ascending; of equal magnitudes the lowest positions.
// O(count).
std::vector<std::size_t> largest_positions(std::span<const float> values, std::size_t k) {
  std::vector<std::size_t> positions;
  if (k == 0) return positions;
  std::vector<std::uint32_t> magnitudes(values.size());
  std::transform(values.begin(), values.end(), magnitudes.begin(), detail::magnitude_bits);
  const auto kth = magnitudes.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(magnitudes.begin(), kth, magnitudes.end(), std::greater<>());
  const std::uint32_t threshold = *kth;
  auto ties_left = k - static_cast<std::size_t>(std::count_if(
                           magnitudes.begin(), kth,
                           [threshold](std::uint32_t bits) { return bits > threshold; }));
  positions.reserve(k);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = detail::magnitude_bits(values[i]);
    if (bits < threshold || (bits == threshold && ties_left == 0)) continue;
    if (bits == threshold) --ties_left;
    positions.push_back(i);
  }
  FEDCTL_ASSERT(positions.size() == k);
  return positions;
}

class Topk final : public Codec {
 public:
  // `values` codes exactly `kept` values.
  Topk(std::size_t count, std::size_t kept, std::unique_ptr<Codec> values)
      : count_(count), kept_(kept), values_(std::move(values)) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return detail::positions_bytes_max(kept_, count_) + values_->max_encoded_bytes(kept_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    detail::largest_magnitude(values);
    const std::vector<std::size_t> positions = largest_positions(values, kept_);
    std::vector<float> kept;
    kept.reserve(kept_);
    for (const std::size_t position : positions) kept.push_back(values[position]);
    Bytes encoded;
    detail::write_positions(positions, encoded);
    ByteWriter(encoded).raw(values_->encode(kept, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    const std::vector<std::size_t> positions = detail::read_positions(kept_, count_, encoded);
    std::vector<float> kept(kept_);
    values_->decode(encoded, kept);
    std::fill(out.begin(), out.end(), 0.0F);
    for (std::size_t i = 0; i < kept_; ++i) out[positions[i]] = kept[i];
  }

 private:
  std::size_t count_;  // values in all
  std::size_t kept_;   // k
  std::unique_ptr<Codec> values_;
};

struct TopkOptions : config::Options {
  double ratio = 0.05;
  void fields(config::Fields& fields) override {
    fields.real("ratio", ratio, {.above = 0, .max = 1}, "share of the values that are kept");
  }
};

std::size_t kept_count(double ratio, std::size_t count) {
  const auto rounded = static_cast<std::size_t>(std::llround(ratio * static_cast<double>(count)));
  return std::min(count, std::max<std::size_t>(1, rounded));
}

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  const std::size_t count = detail::value_count(blocks);
  const std::array kept = {kept_count(dynamic_cast<const TopkOptions&>(options).ratio, count)};
  return std::make_unique<Topk>(count, kept[0], next(kept));
}

}  // namespace

CodecEntry topk() {
  return {.kind = {.name = "topk",
                   .summary = "the values of largest magnitude, with their positions",
                   .paper = "Stich, Cordonnier, Jaggi, NeurIPS 2018 (arXiv 1809.07599)",
                   .make_options = [] { return std::make_unique<TopkOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.contractive = true},
          .make =
              [](const config::Options& options, Blocks blocks) {
                return make_before(options, blocks,
                                   [](Blocks) { return std::make_unique<detail::Float32>(); });
              },
          .make_before = make_before};
}

}  // namespace fedctl::codec

// topk: keeps the k = max(1, round(ratio * count)) values of largest magnitude, of equals the
// first, in all or (`chunk`) in every run of so many values; the others decode to 0 (Aji and
// Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017; Stich, Cordonnier,
// Jaggi, "Sparsified SGD with memory", NeurIPS 2018; in chunks: Sarfi et al., SparseLoCo, arXiv
// 2508.15706, with runs of the flat vector for its 64 x 64 blocks).
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
  // `values` codes as many values as the chunks keep.
  Topk(std::vector<detail::Chunk> chunks, std::unique_ptr<Codec> values)
      : chunks_(std::move(chunks)), values_(std::move(values)) {
    for (const detail::Chunk& chunk : chunks_) {
      count_ += chunk.length;
      kept_ += chunk.kept;
    }
  }

  std::size_t max_encoded_bytes(std::size_t count) const override {
    FEDCTL_ASSERT(count == count_);
    return detail::positions_bytes_max(chunks_) + values_->max_encoded_bytes(kept_);
  }

  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == count_);
    detail::largest_magnitude(values);
    std::vector<std::size_t> positions;
    positions.reserve(kept_);
    std::size_t first = 0;
    for (const detail::Chunk& chunk : chunks_) {
      for (const std::size_t position :
           largest_positions(values.subspan(first, chunk.length), chunk.kept)) {
        positions.push_back(first + position);
      }
      first += chunk.length;
    }
    std::vector<float> kept;
    kept.reserve(kept_);
    for (const std::size_t position : positions) kept.push_back(values[position]);
    Bytes encoded;
    detail::write_positions(positions, chunks_, encoded);
    ByteWriter(encoded).raw(values_->encode(kept, rng));
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    FEDCTL_ASSERT(out.size() == count_);
    const std::vector<std::size_t> positions = detail::read_positions(chunks_, encoded);
    std::vector<float> kept(kept_);
    values_->decode(encoded, kept);
    std::fill(out.begin(), out.end(), 0.0F);
    for (std::size_t i = 0; i < kept_; ++i) out[positions[i]] = kept[i];
  }

 private:
  std::vector<detail::Chunk> chunks_;
  std::size_t count_ = 0;  // values in all
  std::size_t kept_ = 0;   // k
  std::unique_ptr<Codec> values_;
};

struct TopkOptions : config::Options {
  double ratio = 0.05;
  std::int64_t chunk = 0;
  void fields(config::Fields& fields) override {
    fields.real("ratio", ratio, {.above = 0, .max = 1}, "share of the values that are kept");
    fields.integer("chunk", chunk, {.min = 0, .max = 1 << 24},
                   "choose in every run of so many values; 0: among all");
  }
};

std::vector<detail::Chunk> chunks_of(const TopkOptions& options, std::size_t count) {
  const std::size_t length = options.chunk > 0 ? static_cast<std::size_t>(options.chunk) : count;
  std::vector<detail::Chunk> chunks;
  for (std::size_t first = 0; first < count; first += length) {
    const std::size_t here = std::min(length, count - first);
    chunks.push_back({here, detail::share_of(options.ratio, here)});
  }
  return chunks;
}

std::unique_ptr<Codec> make_before(const config::Options& options, Blocks blocks,
                                   const MakeNext& next) {
  std::vector<detail::Chunk> chunks =
      chunks_of(dynamic_cast<const TopkOptions&>(options), detail::value_count(blocks));
  std::size_t all = 0;
  for (const detail::Chunk& chunk : chunks) all += chunk.kept;
  const std::array<BlockSize, 1> kept = {all};
  return std::make_unique<Topk>(std::move(chunks), next(kept));
}

}  // namespace

CodecEntry topk() {
  return {.kind = {.name = "topk",
                   .summary = "the values of largest magnitude, with their positions",
                   .paper = "Stich, Cordonnier, Jaggi, NeurIPS 2018 (arXiv 1809.07599)",
                   .make_options = [] { return std::make_unique<TopkOptions>(); }},
          .stage = Stage::sparsifier,
          .promises = {.contractive = true},
          .make_before = make_before};
}

}  // namespace fedctl::codec

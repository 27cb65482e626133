// kmeans: the values of a block in `clusters` clusters, each decoded to its centroid (Malekijoo et
// al., FedZip, arXiv 2102.01593, step 2; with rans behind it its steps 2 and 3). With `symmetric`
// the magnitudes are clustered, in half as many, and the sign is sent: behind topk and with 4
// clusters the values of SparseLoCo at two magnitudes.
//
// Bytes: float32 centroids of every block that holds a value, ascending (`symmetric`: those of the
// magnitudes, half as many); then the number of its cluster for every value (`symmetric`: plus half
// the number of clusters for a value not below 0, -0 included).
//        4 * centroids * blocks + ceil(count * bit_width(clusters - 1) / 8)
// Error: at most the block's variance, |x - mean(x)|^2; up to rounding. A receiver cannot tell
// whether the centroids are those that encode() would have found: equal contents may have other
// bytes.
//
// Deviation from the paper: Lloyd's passes start at quantiles, not at equal steps between the
// extremes, where one far value leaves clusters empty.

#include <algorithm>
#include <cmath>

#include "codec/codec.hpp"
#include "codec/detail/block_symbols.hpp"
#include "codec/detail/lloyd.hpp"

namespace fedctl::codec {
namespace {

constexpr std::size_t kPasses = 100;

class Kmeans final : public detail::BlockSymbols {
 public:
  Kmeans(unsigned clusters, bool symmetric, Blocks blocks, std::unique_ptr<SymbolCoder> coder)
      : BlockSymbols("kmeans", clusters, symmetric ? clusters / 2 : clusters, blocks,
                     std::move(coder)),
        symmetric_(symmetric) {}

 private:
  void encode_block(std::span<const float> values, Rng&, std::span<float> parameters,
                    std::span<std::uint8_t> symbols) const override {
    std::vector<float> sorted(values.begin(), values.end());
    if (symmetric_) {
      for (float& value : sorted) value = std::abs(value);
    }
    std::sort(sorted.begin(), sorted.end());
    const std::vector<float> centroids =
        detail::lloyd(sorted, detail::quantiles(sorted, parameters.size()), kPasses);
    std::copy(centroids.begin(), centroids.end(), parameters.begin());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float value = symmetric_ ? std::abs(values[i]) : values[i];
      const std::size_t upper = symmetric_ && values[i] >= 0 ? parameters.size() : 0;
      symbols[i] = static_cast<std::uint8_t>(upper + detail::nearest(parameters, value));
    }
  }

  void decode_block(std::span<const float> parameters, std::span<const std::uint8_t> symbols,
                    std::span<float> out) const override {
    if (!std::is_sorted(parameters.begin(), parameters.end())) refuse("centroids do not ascend");
    if (symmetric_) expect_scale(parameters[0]);
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool upper = symbols[i] >= parameters.size();
      const float centroid = parameters[upper ? symbols[i] - parameters.size() : symbols[i]];
      out[i] = symmetric_ && !upper ? -centroid : centroid;
    }
  }

  bool symmetric_;
};

struct KmeansOptions : config::Options {
  std::int64_t clusters = 16;
  bool symmetric = false;
  void fields(config::Fields& fields) override {
    fields.integer("clusters", clusters, {.min = 2, .max = 256}, "values that are told apart");
    fields.boolean("symmetric", symmetric, "clusters of magnitudes, and a sign; an even number");
  }
};

std::unique_ptr<Codec> make_coded(const config::Options& options, Blocks blocks,
                                  std::unique_ptr<SymbolCoder> coder) {
  const auto& own = dynamic_cast<const KmeansOptions&>(options);
  if (own.symmetric && own.clusters % 2 != 0) {
    throw ConfigError("kmeans: symmetric is true, but clusters is " + std::to_string(own.clusters) +
                          ", which is odd",
                      "half of the clusters are those of the other sign");
  }
  return std::make_unique<Kmeans>(static_cast<unsigned>(own.clusters), own.symmetric, blocks,
                                  std::move(coder));
}

}  // namespace

CodecEntry kmeans() {
  return {.kind = {.name = "kmeans",
                   .summary = "clusters of a block's values, each sent as its centroid",
                   .paper = "Malekijoo et al., FedZip, arXiv 2102.01593; Lloyd, 1982",
                   .make_options = [] { return std::make_unique<KmeansOptions>(); }},
          .promises = {.contractive = true},
          .make_coded = make_coded};
}

}  // namespace fedctl::codec

#include "codec/detail/allocation.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "base/rng.hpp"

using namespace fedctl;
using codec::detail::allocate;
using codec::detail::Costs;

namespace {

struct Total {
  double error = 0;
  std::uint64_t size = 0;
};

Total total_of(const std::vector<Costs>& layers, const std::vector<std::size_t>& chosen) {
  Total total;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    total.error += layers[l].error[chosen[l]];
    total.size += layers[l].size[chosen[l]];
  }
  return total;
}

// Finer settings have less error and more size. Errors are whole numbers.
std::vector<Costs> random_layers(Rng& rng, std::size_t layers, std::size_t settings) {
  std::vector<Costs> all(layers);
  for (Costs& layer : all) {
    double error = 40;
    std::uint64_t size = 1 + rng.below(20);
    for (std::size_t v = 0; v < settings; ++v) {
      error = static_cast<double>(rng.below(static_cast<std::uint64_t>(error) + 1));
      size += rng.below(30);
      layer.error.push_back(error);
      layer.size.push_back(size);
    }
  }
  return all;
}

// The least size with at most this error, by trying all.
std::uint64_t best_size(const std::vector<Costs>& layers, double error_max) {
  const std::size_t settings = layers[0].size.size();
  std::vector<std::size_t> chosen(layers.size());
  std::uint64_t best = ~std::uint64_t{0};
  while (true) {
    const Total total = total_of(layers, chosen);
    if (total.error <= error_max) best = std::min(best, total.size);
    std::size_t l = 0;
    while (l < chosen.size() && ++chosen[l] == settings) chosen[l++] = 0;
    if (l == chosen.size()) return best;
  }
}

}  // namespace

TEST_CASE("L-GreCo finds what trying all settings finds", "[codec][lgreco][property]") {
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    const std::size_t count = 1 + static_cast<std::size_t>(rng.below(6));
    const auto layers = random_layers(rng, count, 1 + static_cast<std::size_t>(rng.below(4)));
    const std::size_t standard = static_cast<std::size_t>(rng.below(layers[0].size.size()));
    const Total uniform = total_of(layers, std::vector<std::size_t>(count, standard));
    const Total found = total_of(layers, allocate(layers, standard));
    const double share = static_cast<double>(count) / codec::detail::kBuckets;
    CHECK(found.error <= uniform.error * (1 + share));
    CHECK(found.size <= uniform.size);
    // Whole errors: the part by which the budget is exceeded is below one.
    CHECK(found.size == best_size(layers, uniform.error));
  }
}

TEST_CASE("L-GreCo at its limits", "[codec][lgreco]") {
  Rng rng(2);
  const auto one = random_layers(rng, 5, 1);
  CHECK(allocate(one, 0) == std::vector<std::size_t>(5, 0));
  CHECK(allocate({}, 0).empty());
  // A knob without loss, and no budget: it is taken everywhere.
  auto layers = random_layers(rng, 5, 3);
  for (Costs& layer : layers) {
    layer.error = {30, 10, 0};
    layer.size = {1, 2, 3};
  }
  CHECK(allocate(layers, 1, 0) == std::vector<std::size_t>(5, 2));
  CHECK(allocate(layers, 1, 1e-9) == std::vector<std::size_t>(5, 2));
  for (Costs& layer : layers) layer.error = {30, 20, 10};
  CHECK(allocate(layers, 1, 1e-9) == std::vector<std::size_t>(5, 1));  // nothing fits
  // Equal layers: the standard setting is the best one.
  for (Costs& layer : layers) layer.error = {20, 10, 5};
  CHECK(total_of(layers, allocate(layers, 1)).size <= 10);
}

TEST_CASE("L-GreCo: a larger budget never costs more", "[codec][lgreco][property]") {
  Rng rng(3);
  for (int i = 0; i < 50; ++i) {
    const auto layers = random_layers(rng, 6, 4);
    std::uint64_t before = ~std::uint64_t{0};
    for (const double factor : {0.5, 0.8, 1.0, 1.3, 2.0, 5.0}) {
      const Total found = total_of(layers, allocate(layers, 1, factor));
      const Total uniform = total_of(layers, std::vector<std::size_t>(6, 1));
      const bool fits = found.error <= factor * uniform.error * 1.001;
      if (!fits) continue;  // no setting does
      CHECK(found.size <= before);
      before = found.size;
    }
  }
}

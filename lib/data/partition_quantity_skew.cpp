// quantity_skew: clients of unequal size and the same labels. Client i (from 0) has a share
// proportional to (i + 1)^-alpha; which examples it gets is drawn at random.
//
// The name is that of Li, Diao, Chen, He, "Federated learning on non-IID data silos", ICDE 2022,
// arXiv 2102.02079, section 4. Deviation: they draw the shares from a Dirichlet distribution, here
// they follow a power law, so that the sizes are known beforehand.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct QuantitySkewOptions final : config::Options {
  double alpha = 1;
  std::int64_t min_size = 1;
  void fields(config::Fields& fields) override {
    fields.real("alpha", alpha, {.min = 0, .max = 100},
                "exponent of the power law; 0: equal sizes, larger is more skewed");
    fields.integer("min_size", min_size, {1, 1'000'000'000},
                   "examples that every client has; the power law deals out the rest");
  }
};

// min_size each, and floor(weight_i / sum * rest) of the rest; what is left over goes to the
// largest remainders, the lower client first.
std::vector<std::size_t> sizes_of(std::size_t size, std::size_t clients, double alpha,
                                  std::size_t min_size) {
  std::vector<double> shares(clients);
  for (std::size_t i = 0; i < clients; ++i)
    shares[i] = std::pow(static_cast<double>(i + 1), -alpha);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  const std::size_t rest = size - clients * min_size;
  std::vector<std::size_t> sizes(clients, min_size);
  std::size_t dealt = 0;
  for (std::size_t i = 0; i < clients; ++i) {
    shares[i] *= static_cast<double>(rest) / sum;
    const auto whole = std::min(static_cast<std::size_t>(shares[i]), rest - dealt);
    sizes[i] += whole;
    dealt += whole;
    shares[i] -= static_cast<double>(whole);
  }
  std::vector<std::size_t> order(clients);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](auto a, auto b) { return shares[a] > shares[b]; });
  for (std::size_t i = 0; dealt < rest; ++i, ++dealt) ++sizes[order[i % clients]];
  return sizes;
}

std::vector<std::vector<std::size_t>> split(const config::Options& given, const Dataset& train,
                                            std::size_t clients, Rng rng) {
  const auto& options = dynamic_cast<const QuantitySkewOptions&>(given);
  const auto min_size = static_cast<std::size_t>(options.min_size);
  if (min_size > train.size() / clients) {
    throw ConfigError("data.partition.min_size is " + std::to_string(min_size) + ", " +
                          std::to_string(clients) + " clients share " +
                          std::to_string(train.size()) + " examples",
                      "lower min_size or clients.count");
  }
  const std::vector<std::size_t> order = rng.permutation(train.size());
  std::vector<std::vector<std::size_t>> lists;
  auto at = order.begin();
  for (const std::size_t size : sizes_of(train.size(), clients, options.alpha, min_size)) {
    const auto end = at + static_cast<std::ptrdiff_t>(size);
    lists.emplace_back(at, end);
    std::ranges::sort(lists.back());
    at = end;
  }
  return lists;
}

}  // namespace

PartitionerEntry partition_quantity_skew();
PartitionerEntry partition_quantity_skew() {
  return {
      {"quantity_skew", "sizes by a power law, labels alike", "Li et al. 2022, arXiv 2102.02079",
       [] { return std::make_unique<QuantitySkewOptions>(); }},
      split};
}

}  // namespace fedctl::data

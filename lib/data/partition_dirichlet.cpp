// dirichlet: label skew. Each class is cut by proportions drawn from a symmetric Dirichlet(alpha)
// over the clients (Hsu, Qi, Brown 2019, arXiv 1909.06335, section 3). Small alpha: few classes a
// client, and clients of unequal size.
//
// Deviation from the paper: it draws class proportions per client; this is the form common since,
// client proportions per class, which uses every example exactly once.
#include <algorithm>
#include <map>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr int kDrawsMax = 100;

struct DirichletOptions final : config::Options {
  double alpha = 0.5;
  std::int64_t min_size = 1;
  void fields(config::Fields& fields) override {
    fields.real("alpha", alpha, {.above = 0, .max = 1e6}, "concentration; smaller is more skewed");
    fields.integer("min_size", min_size, {1, 1'000'000'000},
                   "fewest examples of a client; drawn anew until it holds");
  }
};

using Lists = std::vector<std::vector<std::size_t>>;

Lists draw(const std::map<std::int64_t, std::vector<std::size_t>>& by_label, std::size_t clients,
           double alpha, Rng rng) {
  Lists lists(clients);
  for (const auto& [label, members] : by_label) {
    std::vector<std::size_t> order = members;
    rng.shuffle(std::span(order));
    std::vector<double> edges(clients);
    // Partial sums of gamma draws, divided by their total, are the edges of a Dirichlet draw.
    double sum = 0;
    for (double& edge : edges) edge = sum += rng.gamma(alpha);
    std::size_t at = 0;
    for (std::size_t client = 0; client < clients; ++client) {
      // A tiny alpha can underflow every draw to zero: then an even cut.
      const double share = sum > 0 ? edges[client] / sum
                                   : static_cast<double>(client + 1) / static_cast<double>(clients);
      const auto end = client + 1 == clients
                           ? order.size()
                           : static_cast<std::size_t>(share * static_cast<double>(order.size()));
      for (; at < std::min(end, order.size()); ++at) lists[client].push_back(order[at]);
    }
  }
  for (auto& list : lists) std::ranges::sort(list);
  return lists;
}

Lists split(const config::Options& given, const Dataset& train, std::size_t clients, Rng rng) {
  const auto& options = dynamic_cast<const DirichletOptions&>(given);
  std::map<std::int64_t, std::vector<std::size_t>> by_label;
  for (std::size_t index = 0; index < train.size(); ++index)
    by_label[train.label(index)].push_back(index);
  const auto smallest_allowed = static_cast<std::size_t>(options.min_size);
  if (smallest_allowed <= train.size() / clients) {
    for (int attempt = 0; attempt < kDrawsMax; ++attempt) {
      Lists lists = draw(by_label, clients, options.alpha, rng.stream("draw", attempt));
      const auto smallest =
          std::ranges::min_element(lists, {}, [](const auto& list) { return list.size(); });
      if (smallest->size() >= smallest_allowed) return lists;
    }
  }
  throw ConfigError("data.partition: no draw of " + std::to_string(kDrawsMax) + " leaves each of " +
                        std::to_string(clients) + " clients " + std::to_string(options.min_size) +
                        " of " + std::to_string(train.size()) + " examples",
                    "raise data.partition.alpha, or lower min_size or clients.count");
}

}  // namespace

PartitionerEntry partition_dirichlet();
PartitionerEntry partition_dirichlet() {
  return {
      {"dirichlet", "label skew by a Dirichlet distribution", "Hsu et al. 2019, arXiv 1909.06335",
       [] { return std::make_unique<DirichletOptions>(); }},
      split};
}

}  // namespace fedctl::data

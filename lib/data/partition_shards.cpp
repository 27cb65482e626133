// shards: sorted by label, cut into equal shards, a few dealt to each client (McMahan et al. 2017,
// arXiv 1602.05629, section 3). Few labels a client; sizes differ by at most one a shard.
#include <algorithm>
#include <numeric>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct ShardsOptions final : config::Options {
  std::int64_t per_client = 2;
  void fields(config::Fields& fields) override {
    fields.integer("per_client", per_client, {1, 100'000}, "shards a client gets");
  }
};

std::vector<std::vector<std::size_t>> split(const config::Options& given, const Dataset& train,
                                            std::size_t clients, Rng rng) {
  const auto per_client =
      static_cast<std::size_t>(dynamic_cast<const ShardsOptions&>(given).per_client);
  const std::size_t shards = clients * per_client;
  if (shards > train.size()) {
    throw ConfigError("data.partition: " + std::to_string(shards) + " shards of " +
                          std::to_string(train.size()) + " examples",
                      "lower data.partition.per_client or clients.count");
  }
  // Random within a label, so that a shard is a random part of its class.
  std::vector<std::size_t> order = rng.permutation(train.size());
  std::ranges::stable_sort(order, {}, [&](std::size_t index) { return train.label(index); });
  const std::vector<std::size_t> deal = rng.permutation(shards);
  std::vector<std::vector<std::size_t>> lists(clients);
  for (std::size_t i = 0; i < shards; ++i) {
    const std::size_t begin = deal[i] * train.size() / shards,
                      end = (deal[i] + 1) * train.size() / shards;
    auto& list = lists[i / per_client];
    list.insert(list.end(), order.begin() + static_cast<std::ptrdiff_t>(begin),
                order.begin() + static_cast<std::ptrdiff_t>(end));
  }
  for (auto& list : lists) std::ranges::sort(list);
  return lists;
}

}  // namespace

PartitionerEntry partition_shards();
PartitionerEntry partition_shards() {
  return {{"shards", "a few label-sorted shards a client",
           "McMahan et al., AISTATS 2017, arXiv 1602.05629",
           [] { return std::make_unique<ShardsOptions>(); }},
          split};
}

}  // namespace fedctl::data

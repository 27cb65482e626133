// iid: every client is a random sample of the whole.
#include <algorithm>

#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct IidOptions final : config::Options {
  void fields(config::Fields&) override {}
};

// A random order dealt out like cards: sizes differ by at most one.
std::vector<std::vector<std::size_t>> split(const config::Options&, const Dataset& train,
                                            std::size_t clients, Rng rng) {
  std::vector<std::vector<std::size_t>> lists(clients);
  std::size_t next = 0;
  for (const std::size_t index : rng.permutation(train.size()))
    lists[next++ % clients].push_back(index);
  for (auto& list : lists) std::ranges::sort(list);
  return lists;
}

}  // namespace

PartitionerEntry partition_iid();
PartitionerEntry partition_iid() {
  return {{"iid", "a random, even deal", "", [] { return std::make_unique<IidOptions>(); }}, split};
}

}  // namespace fedctl::data

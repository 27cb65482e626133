// iid: every client is a random sample of the whole.
#include "data/detail/even_deal.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct IidOptions final : config::Options {
  void fields(config::Fields&) override {}
};

std::vector<std::vector<std::size_t>> split(const config::Options&, const Dataset& train,
                                            std::size_t clients, Rng rng) {
  return even_deal(train.size(), clients, rng);
}

}  // namespace

PartitionerEntry partition_iid();
PartitionerEntry partition_iid() {
  return {{"iid", "a random, even deal", "", [] { return std::make_unique<IidOptions>(); }}, split};
}

}  // namespace fedctl::data

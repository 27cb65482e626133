#include "aggregate/aggregator.hpp"

namespace fedctl::aggregate {

#define AGGREGATOR(name) AggregatorEntry name();
#include "aggregate/aggregators.def"
#undef AGGREGATOR

const std::vector<AggregatorEntry>& aggregators() {
  static const std::vector<AggregatorEntry> entries = {
#define AGGREGATOR(name) name(),
#include "aggregate/aggregators.def"
#undef AGGREGATOR
  };
  return entries;
}

const config::Kinds& aggregator_kinds() {
  static const config::Kinds kinds = [] {
    config::Kinds all;
    for (const AggregatorEntry& entry : aggregators()) all.push_back(entry.kind);
    return all;
  }();
  return kinds;
}

}  // namespace fedctl::aggregate

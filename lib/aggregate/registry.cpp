#include <deque>

#include "aggregate/aggregator.hpp"

namespace fedctl::aggregate {
namespace {

// For rules that must see all at once.
class Gathering final : public Aggregator::Running {
 public:
  explicit Gathering(Aggregator& rule) : rule_(rule) {}
  void add(const Contribution& next) override {
    values_.emplace_back(next.values.begin(), next.values.end());
    all_.push_back({next.from, next.weight, values_.back()});
  }
  void finish(std::span<float> out) override { rule_.combine(all_, out); }

 private:
  Aggregator& rule_;
  std::deque<std::vector<float>> values_;
  std::vector<Contribution> all_;
};

}  // namespace

std::unique_ptr<Aggregator::Running> Aggregator::start(std::size_t) {
  return std::make_unique<Gathering>(*this);
}

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

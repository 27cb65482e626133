// Aggregator: many client vectors into one. The registry is aggregators.def.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/fields.hpp"

namespace fedctl::aggregate {

struct Contribution {
  std::int64_t from = 0;
  double weight = 0;  // > 0; not normalised
  std::span<const float> values;
};

// Pure: contributions come sorted by peer, each as long as `out`, at least one.
class Aggregator {
 public:
  virtual ~Aggregator() = default;
  virtual void combine(std::span<const Contribution> in, std::span<float> out) = 0;

  // The same for contributions that come one by one and are gone afterwards: bit for bit what
  // combine() makes of them.
  class Running {
   public:
    virtual ~Running() = default;
    // Precondition: as long as the others, sorted by peer.
    virtual void add(const Contribution& next) = 0;
    // Once, with at least one added.
    virtual void finish(std::span<float> out) = 0;
  };
  // For vectors of `count`. Unless a rule knows better, Running keeps a copy of every contribution.
  virtual std::unique_ptr<Running> start(std::size_t count);
};

struct AggregatorEntry {
  config::Kind kind;
  std::function<std::unique_ptr<Aggregator>(const config::Options&)> make;
};
const std::vector<AggregatorEntry>& aggregators();
const config::Kinds& aggregator_kinds();

}  // namespace fedctl::aggregate

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
};

struct AggregatorEntry {
  config::Kind kind;
  std::function<std::unique_ptr<Aggregator>(const config::Options&)> make;
};
const std::vector<AggregatorEntry>& aggregators();
const config::Kinds& aggregator_kinds();

}  // namespace fedctl::aggregate

#include "learn/detail/optimizer_options.hpp"
#include "learn/train.hpp"

namespace fedctl::learn {

#define OPTIMIZER(name) OptimizerEntry name();
#include "learn/optimizers.def"
#undef OPTIMIZER

const std::vector<OptimizerEntry>& optimizers() {
  static const std::vector<OptimizerEntry> entries = {
#define OPTIMIZER(name) name(),
#include "learn/optimizers.def"
#undef OPTIMIZER
  };
  return entries;
}

const config::Kinds& optimizer_kinds() {
  static const config::Kinds kinds = [] {
    config::Kinds all;
    for (const OptimizerEntry& entry : optimizers()) all.push_back(entry.kind);
    return all;
  }();
  return kinds;
}

double learning_rate(const config::Plugin& optimizer) {
  return optimizer.as<detail::OptimizerOptions>().lr;
}

}  // namespace fedctl::learn

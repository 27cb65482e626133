#include <algorithm>

#include "base/assert.hpp"
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

void Optimizer::step(std::span<float> weights, std::span<const float> gradient, double lr) {
  const std::size_t size = runs_.empty() ? 0 : runs_.back().first + runs_.back().count;
  FEDCTL_ASSERT(weights.size() == size && gradient.size() == size);
  ++steps_;
  for (const Run& run : runs_) {
    update(run.first, weights.subspan(run.first, run.count), gradient.subspan(run.first, run.count),
           lr, run.decay);
  }
}

std::vector<Optimizer::Run> decay_runs(const Layout& layout, std::span<const std::string> exclude) {
  const auto lower = [](std::string text) {
    std::ranges::transform(text, text.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return text;
  };
  std::vector<Optimizer::Run> runs;
  for (const Block& block : layout.blocks()) {
    const std::string name = lower(block.name);
    const bool excluded = std::ranges::any_of(exclude, [&](const std::string& text) {
      return text == "1d" ? block.shape.size() == 1 : name.find(lower(text)) != std::string::npos;
    });
    if (runs.empty() || runs.back().decay == excluded) {
      runs.push_back({block.offset, block.count, !excluded});
    } else {
      runs.back().count += block.count;
    }
  }
  return runs;
}

}  // namespace fedctl::learn

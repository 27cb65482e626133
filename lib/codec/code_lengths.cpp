#include "codec/detail/code_lengths.hpp"

#include <algorithm>
#include <vector>

#include "base/assert.hpp"

namespace fedctl::codec::detail {
namespace {

struct Leaf {
  std::uint64_t count;
  std::uint8_t symbol;
};

std::vector<Leaf> leaves_of(std::span<const std::uint64_t> counts) {
  std::vector<Leaf> leaves;
  for (std::size_t symbol = 0; symbol < counts.size(); ++symbol) {
    if (counts[symbol] > 0) leaves.push_back({counts[symbol], static_cast<std::uint8_t>(symbol)});
  }
  std::ranges::stable_sort(leaves, {}, &Leaf::count);
  return leaves;
}

// A level of the algorithm: leaves and pairs of the level before it, by weight.
struct Level {
  std::vector<std::uint64_t> weights;
  std::vector<bool> leaf;
};

Level next_level(const std::vector<Leaf>& leaves, const Level& before) {
  Level level;
  std::size_t at = 0;
  const auto add_leaves = [&](std::uint64_t weight_max) {
    for (; at < leaves.size() && leaves[at].count <= weight_max; ++at) {
      level.weights.push_back(leaves[at].count);
      level.leaf.push_back(true);
    }
  };
  for (std::size_t i = 0; i + 1 < before.weights.size(); i += 2) {
    const std::uint64_t pair = before.weights[i] + before.weights[i + 1];
    add_leaves(pair);
    level.weights.push_back(pair);
    level.leaf.push_back(false);
  }
  add_leaves(UINT64_MAX);
  return level;
}

}  // namespace

CodeLengths code_lengths(std::span<const std::uint64_t> counts) {
  FEDCTL_ASSERT(counts.size() <= 256);
  CodeLengths lengths{};
  const std::vector<Leaf> leaves = leaves_of(counts);
  if (leaves.size() == 1) lengths[leaves[0].symbol] = 1;
  if (leaves.size() < 2) return lengths;
  std::vector<Level> levels(1, next_level(leaves, {}));
  while (levels.size() < kCodeBitsMax) levels.push_back(next_level(leaves, levels.back()));
  // The first 2 (n - 1) entries of the last level are chosen; a pair chooses two of the level
  // before it. A symbol's length is the number of levels in which its leaf is chosen.
  std::size_t chosen = 2 * (leaves.size() - 1);
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    const auto end = level->leaf.begin() + static_cast<std::ptrdiff_t>(chosen);
    const auto chosen_leaves = static_cast<std::size_t>(std::count(level->leaf.begin(), end, true));
    for (std::size_t i = 0; i < chosen_leaves; ++i) ++lengths[leaves[i].symbol];
    chosen = 2 * (chosen - chosen_leaves);
  }
  return lengths;
}

}  // namespace fedctl::codec::detail

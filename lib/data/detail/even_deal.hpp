// The deal of the partitioners that leave labels alone.
#pragma once

#include <algorithm>
#include <vector>

#include "base/rng.hpp"

namespace fedctl::data {

// A random order of 0 .. count - 1 dealt out like cards: sizes differ by at most one. Sorted lists.
inline std::vector<std::vector<std::size_t>> even_deal(std::size_t count, std::size_t clients,
                                                       Rng rng) {
  std::vector<std::vector<std::size_t>> lists(clients);
  std::size_t next = 0;
  for (const std::size_t index : rng.permutation(count)) lists[next++ % clients].push_back(index);
  for (auto& list : lists) std::ranges::sort(list);
  return lists;
}

}  // namespace fedctl::data

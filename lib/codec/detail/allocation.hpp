// Layer-wise allocation by dynamic programming: L-GreCo (Alimohammadi, Markov, Frantar, Alistarh,
// MLSys 2024, arXiv 2210.17357).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fedctl::codec::detail {

// What a layer costs with each setting of its knob.
struct Costs {
  std::vector<double> error;        // |G - C(G)|, not squared
  std::vector<std::uint64_t> size;  // in any unit
};

inline constexpr std::size_t kBuckets = 10'000;

// A setting for every layer: the least total size whose total error is at most `factor` times that
// of `standard` for all layers, up to a part of layers / buckets by rounding; of equal sizes the
// smallest error. `standard` for all if nothing fits. Memory: layers * (buckets + layers) bytes.
//
// Deviation from the code: the budget runs to buckets + layers, so that rounding up cannot make
// the standard setting itself too large.
// Preconditions: at most 255 settings, the same number for every layer; standard is one of them.
std::vector<std::size_t> allocate(std::span<const Costs> layers, std::size_t standard,
                                  double factor = 1, std::size_t buckets = kBuckets);

}  // namespace fedctl::codec::detail

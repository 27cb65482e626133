// Masks, neighbours and numbers of the masked sum (Bonawitz et al., "Practical secure aggregation
// for privacy-preserving machine learning", CCS 2017; Bell et al., SecAgg+, CCS 2020).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.hpp"
#include "secure/keys.hpp"

namespace fedctl::secure {

// words += or -= the mask of a seed, modulo 2^bits; 1 <= bits <= 32. The mask is the lowest bits of
// ChaCha20's 32-bit words under the seed.
void add_mask(const Key& seed, bool plus, unsigned bits, std::span<std::uint32_t> words);

// The neighbours of each of n clients on a ring: k / 2 on each side; all others if k >= n - 1.
// Ascending; the relation is symmetric.
std::vector<std::vector<std::size_t>> ring(std::size_t n, std::size_t k);

// Neighbours and threshold for SecAgg+: the smallest even k such that, with a share `corrupt` of
// the clients curious and a share `dropout` lost, too many curious neighbours, too few survivors,
// or survivors without connection have chances of 2^-41, 2^-20 and 2^-41. Where there is no such
// k, all of them, with more than half as threshold.
struct Sparsity {
  std::size_t neighbours = 0, threshold = 0;
  bool operator==(const Sparsity&) const = default;
};
Sparsity sparsity(std::size_t n, double corrupt, double dropout);

// Reals in [-clip, clip] as integers 0 .. levels, so that sums of `clients` of them fit into
// bits().
class Quantizer {
 public:
  Quantizer(double clip, std::int64_t levels, std::size_t clients)
      : clip_(clip), levels_(levels), clients_(clients) {}
  // Of a sum; 0 if it does not fit into 32.
  unsigned bits() const;
  // Rounded to one of its two neighbours, right on average.
  std::uint32_t encode(double value, Rng& rng) const;
  // The sum of the reals, from that of `count` integers.
  double decode(std::uint64_t sum, std::size_t count) const;

 private:
  double clip_;
  std::int64_t levels_;
  std::size_t clients_;
};

}  // namespace fedctl::secure

// Ferret's projection: a vector as a few inner products with random vectors that a key names, block
// by block. Shu et al., "Ferret: federated full-parameter tuning at scale for large language
// models", ICML 2025, arXiv 2409.06277.
//
//   gamma_k = <v_k, x> / (rho K),   x' = sum_k gamma_k v_k,   E x' = x
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/layout.hpp"

namespace fedctl::methods {

// Random vectors of a block of d values. truncated: standard normals truncated to +-1/sqrt d; sign:
// +-1 with equal chance.
class Basis {
 public:
  Basis(const std::string& kind, std::size_t size);
  std::size_t size() const { return size_; }
  double rho() const { return rho_; }  // second moment of an entry
  // The vector of a key; out has size() values. The same on every machine.
  void fill(std::uint64_t key, std::span<float> out) const;

 private:
  std::size_t size_;
  bool sign_;
  double rho_ = 1;
  std::vector<float> series_;  // truncated: of the inverse distribution, odd powers
  float reach_ = 0;            // its argument goes from -reach_ to reach_
};

using KeyOf = std::function<std::uint64_t(std::size_t k)>;

// gamma_0 .. gamma_{count - 1} of the block's values.
std::vector<float> project(const Basis& basis, std::span<const float> values, std::size_t count,
                           const KeyOf& key);
// target += factor sum_k gamma_k v_k. Terms longer than `clip` (> 0) are shortened to it.
void reconstruct(const Basis& basis, std::span<const float> gammas, const KeyOf& key, double factor,
                 double clip, std::span<float> target);

// A run of the flat vector.
struct Run {
  std::size_t first = 0, count = 0;
  bool operator==(const Run&) const = default;
};
// Neighbouring parameters packed until they are more than 0.9 times the median parameter (as the
// official code does).
std::vector<Run> packed_blocks(const Layout& layout);

// Coordinates of each block: in proportion to `shares`, `most` for the largest, 2 at least, 65535
// at most.
std::vector<std::size_t> allot(std::span<const double> shares, std::size_t most);

}  // namespace fedctl::methods

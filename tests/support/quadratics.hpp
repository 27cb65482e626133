// The problem of EControl's reference simulations: clients with diagonal quadratics a (x - b)^2 / 2
// of 40 coordinates each. The reference does not give them: curvatures a from 1 to 7 and normal
// optima b were chosen.
#pragma once

#include <vector>

#include "base/rng.hpp"

namespace fedctl::test {

class Quadratics {
 public:
  static constexpr std::size_t kCount = 40;

  // spread: standard deviation of the optima.
  Quadratics(std::size_t clients, double spread, Rng& rng)
      : curvature_(clients), optimum_(clients), target_(kCount) {
    std::vector<double> weight(kCount);
    for (std::size_t c = 0; c < clients; ++c) {
      for (std::size_t i = 0; i < kCount; ++i) {
        curvature_[c].push_back(rng.uniform(1, 7));
        optimum_[c].push_back(spread * rng.normal());
        weight[i] += curvature_[c][i];
        target_[i] += curvature_[c][i] * optimum_[c][i];
      }
    }
    for (std::size_t i = 0; i < kCount; ++i) target_[i] /= weight[i];
  }

  // Of client c's loss at coordinate i.
  double slope(std::size_t c, std::size_t i, double x) const {
    return curvature_[c][i] * (x - optimum_[c][i]);
  }
  // To the minimum of the clients' mean.
  template <class Values>
  double squared_distance(const Values& x) const {
    double squares = 0;
    for (std::size_t i = 0; i < kCount; ++i) squares += (x[i] - target_[i]) * (x[i] - target_[i]);
    return squares;
  }

 private:
  std::vector<std::vector<double>> curvature_, optimum_;
  std::vector<double> target_;
};

}  // namespace fedctl::test

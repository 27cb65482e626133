// Quadratic losses with different curvatures and optima, an objective of test::Problem.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "base/rng.hpp"
#include "methods/method.hpp"

namespace fedctl::test {

// Clients with different curvatures and optima.
struct Pulls {
  std::vector<std::vector<double>> curvature, optimum;
  Pulls(std::size_t clients, std::size_t d, std::uint64_t seed, double low = 0.5, double high = 2) {
    Rng rng(seed);
    for (std::size_t i = 0; i < clients; ++i) {
      curvature.emplace_back();
      optimum.emplace_back();
      for (std::size_t j = 0; j < d; ++j) {
        curvature.back().push_back(rng.uniform(low, high));
        optimum.back().push_back(rng.normal());
      }
    }
  }
  double operator()(methods::PeerId id, std::span<const float> w, std::span<float> slope) const {
    const auto i = static_cast<std::size_t>(id);
    double loss = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      const double away = w[j] - optimum[i][j];
      if (!slope.empty()) slope[j] = static_cast<float>(curvature[i][j] * away);
      loss += 0.5 * curvature[i][j] * away * away;
    }
    return loss;
  }
  // Where averaging of `steps` exact steps of `rate` stands still.
  std::vector<double> fixed_point(double rate, std::int64_t steps) const {
    std::vector<double> point;
    for (std::size_t j = 0; j < curvature[0].size(); ++j) {
      double top = 0, bottom = 0;
      for (std::size_t i = 0; i < curvature.size(); ++i) {
        const double moved = 1 - std::pow(1 - rate * curvature[i][j], static_cast<double>(steps));
        top += moved * optimum[i][j];
        bottom += moved;
      }
      point.push_back(top / bottom);
    }
    return point;
  }
};

// Relative to the point.
inline double away(std::span<const float> w, std::span<const double> point) {
  double square = 0, norm = 0;
  for (std::size_t j = 0; j < w.size(); ++j) {
    square += std::pow(w[j] - point[j], 2);
    norm += point[j] * point[j];
  }
  return std::sqrt(square / norm);
}

}  // namespace fedctl::test

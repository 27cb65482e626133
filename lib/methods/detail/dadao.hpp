// The pieces of dadao that are algebra alone.
#pragma once

#include <array>
#include <vector>

namespace fedctl::methods {

// The sheet's constants, of a smoothness L and a strong convexity mu (nu = mu / 2).
struct DadaoConstants {
  DadaoConstants(double smoothness, double convexity, double chi1);
  double nu, eta, alpha, alpha_tilde, theta, beta, beta_tilde, delta, delta_tilde, gamma,
      gamma_tilde;
};

// A node's six vectors [d], in double: the primal ones, the duals of the local part, the duals of
// the consensus.
struct DadaoState {
  enum Name { x, x_, y, y_, z, z_ };
  static constexpr std::size_t kCount = 6;
  std::array<std::vector<double>, kCount> vectors;

  // All vectors as they are `time` later, by the exponential of the drift's matrix.
  void drift(const DadaoConstants& constants, double time);
  // `gradient` of f at x.
  void gradient_event(const DadaoConstants& constants, const std::vector<float>& gradient);
  // y + z, to be exchanged.
  std::vector<float> value() const;
  // `difference`: of the own value and the other one's, as both have read them.
  void exchange_event(const DadaoConstants& constants, const std::vector<double>& difference);
};

// exp(time A), 6 x 6, row-major.
std::array<double, 36> dadao_drift(const DadaoConstants& constants, double time);

}  // namespace fedctl::methods

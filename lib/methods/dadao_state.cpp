#include <cmath>

#include "math/matrix.hpp"
#include "methods/detail/dadao.hpp"

namespace fedctl::methods {

DadaoConstants::DadaoConstants(double smoothness, double convexity, double chi1)
    : nu(convexity / 2) {
  const double root = std::sqrt(nu / smoothness);
  eta = alpha_tilde = root / 8;
  alpha = root / 4;
  theta = 1 / (2 * root);
  beta = 0.5;
  beta_tilde = 2 * chi1 / root;
  delta = root / 4;
  delta_tilde = 1;
  gamma = 1 / (4 * smoothness);
  gamma_tilde = 1 / (4 * std::sqrt(smoothness * nu));
}

std::array<double, 36> dadao_drift(const DadaoConstants& c, double time) {
  math::Matrix a(6, 6);
  const double rows[6][6] = {
      {-c.eta, c.eta, 0, 0, 0, 0},     {c.eta, -c.eta, 0, 0, 0, 0},
      {0, 0, -c.alpha, c.alpha, 0, 0}, {0, -c.theta * c.nu, -c.theta, 0, -c.theta, 0},
      {0, 0, 0, 0, -c.alpha, c.alpha}, {0, 0, 0, 0, c.alpha_tilde, -c.alpha_tilde}};
  double largest = 0;
  for (const auto& row : rows) {
    for (const double entry : row) largest = std::max(largest, std::abs(entry));
  }
  // Scaling and squaring: a Taylor series of 1 / 2^squarings of the time, where 6 largest t < 1/2.
  int squarings = 0;
  for (double reach = 6 * largest * time; reach > 0.5; reach /= 2) ++squarings;
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 6; ++j) a.at(i, j) = std::ldexp(rows[i][j] * time, -squarings);
  }
  math::Matrix sum(6, 6), power(6, 6);
  for (std::size_t i = 0; i < 6; ++i) sum.at(i, i) = power.at(i, i) = 1;
  for (int n = 1; n <= 18; ++n) {
    power = math::product(power, a);
    for (double& entry : power.values) entry /= n;
    for (std::size_t k = 0; k < 36; ++k) sum.values[k] += power.values[k];
  }
  for (int n = 0; n < squarings; ++n) sum = math::product(sum, sum);
  std::array<double, 36> result{};
  std::copy(sum.values.begin(), sum.values.end(), result.begin());
  return result;
}

void DadaoState::drift(const DadaoConstants& constants, double time) {
  if (time == 0) return;
  const std::array<double, 36> e = dadao_drift(constants, time);
  std::array<double, kCount> before{};
  for (std::size_t i = 0; i < vectors[0].size(); ++i) {
    for (std::size_t k = 0; k < kCount; ++k) before[k] = vectors[k][i];
    for (std::size_t k = 0; k < kCount; ++k) {
      double sum = 0;
      for (std::size_t l = 0; l < kCount; ++l) sum += e[k * kCount + l] * before[l];
      vectors[k][i] = sum;
    }
  }
}

void DadaoState::gradient_event(const DadaoConstants& c, const std::vector<float>& gradient) {
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double g = double{gradient[i]} - c.nu * vectors[x][i] - vectors[y_][i];
    vectors[x][i] -= c.gamma * g;
    vectors[x_][i] -= c.gamma_tilde * g;
    vectors[y_][i] += (c.delta + c.delta_tilde) * g;
  }
}

std::vector<float> DadaoState::value() const {
  std::vector<float> value(vectors[y].size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    value[i] = static_cast<float>(vectors[y][i] + vectors[z][i]);
  }
  return value;
}

void DadaoState::exchange_event(const DadaoConstants& c, const std::vector<double>& difference) {
  for (std::size_t i = 0; i < difference.size(); ++i) {
    vectors[z][i] -= c.beta * difference[i];
    vectors[z_][i] -= c.beta_tilde * difference[i];
  }
}

}  // namespace fedctl::methods

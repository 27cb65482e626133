#include "math/matrix.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.hpp"

namespace fedctl::math {
namespace {

constexpr int kSweepsMax = 60;
constexpr double kOrthogonal = 1e-15;  // cosine below which two columns count as orthogonal

// Rotates columns p and q of w (and of v alike) until they are orthogonal. False if they were.
bool rotate(Matrix& w, Matrix& v, std::size_t p, std::size_t q) {
  double alpha = 0, beta = 0, gamma = 0;
  for (std::size_t i = 0; i < w.rows; ++i) {
    alpha += w.at(i, p) * w.at(i, p);
    beta += w.at(i, q) * w.at(i, q);
    gamma += w.at(i, p) * w.at(i, q);
  }
  if (gamma == 0 || std::abs(gamma) <= kOrthogonal * std::sqrt(alpha * beta)) return false;
  const double zeta = (beta - alpha) / (2 * gamma);
  const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::hypot(1, zeta));
  const double c = 1 / std::hypot(1, t), s = c * t;
  for (Matrix* m : {&w, &v}) {
    for (std::size_t i = 0; i < m->rows; ++i) {
      const double x = m->at(i, p), y = m->at(i, q);
      m->at(i, p) = c * x - s * y;
      m->at(i, q) = s * x + c * y;
    }
  }
  return true;
}

}  // namespace

Matrix transposed(const Matrix& a) {
  Matrix t(a.columns, a.rows);
  for (std::size_t i = 0; i < a.rows; ++i) {
    for (std::size_t j = 0; j < a.columns; ++j) t.at(j, i) = a.at(i, j);
  }
  return t;
}

Matrix product(const Matrix& a, const Matrix& b) {
  FEDCTL_ASSERT(a.columns == b.rows);
  Matrix c(a.rows, b.columns);
  for (std::size_t i = 0; i < a.rows; ++i) {
    for (std::size_t k = 0; k < a.columns; ++k) {
      for (std::size_t j = 0; j < b.columns; ++j) c.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return c;
}

double frobenius_norm(const Matrix& a) {
  return std::sqrt(std::inner_product(a.values.begin(), a.values.end(), a.values.begin(), 0.0));
}

Qr qr(const Matrix& a) {
  const std::size_t k = std::min(a.rows, a.columns);
  Matrix r = a;
  std::vector<std::vector<double>> reflectors;  // unit vectors, zero above their index
  for (std::size_t j = 0; j < k; ++j) {
    std::vector<double> v(a.rows);
    double squares = 0;
    for (std::size_t i = j; i < a.rows; ++i) squares += (v[i] = r.at(i, j)) * r.at(i, j);
    // Away from the pivot, so that nothing cancels.
    v[j] += v[j] < 0 ? -std::sqrt(squares) : std::sqrt(squares);
    const double length = std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
    if (length > 0) {
      for (double& value : v) value /= length;
    }
    for (std::size_t column = j; column < a.columns; ++column) {
      double dot = 0;
      for (std::size_t i = j; i < a.rows; ++i) dot += v[i] * r.at(i, column);
      for (std::size_t i = j; i < a.rows; ++i) r.at(i, column) -= 2 * dot * v[i];
    }
    reflectors.push_back(std::move(v));
  }
  Qr result{Matrix(a.rows, k), Matrix(k, a.columns)};
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = i; j < a.columns; ++j) result.r.at(i, j) = r.at(i, j);
  }
  for (std::size_t column = 0; column < k; ++column) {
    result.q.at(column, column) = 1;
    for (std::size_t j = k; j-- > 0;) {
      double dot = 0;
      for (std::size_t i = j; i < a.rows; ++i) dot += reflectors[j][i] * result.q.at(i, column);
      for (std::size_t i = j; i < a.rows; ++i) result.q.at(i, column) -= 2 * dot * reflectors[j][i];
    }
  }
  return result;
}

Svd svd(const Matrix& a) {
  if (a.rows < a.columns) {
    Svd flipped = svd(transposed(a));
    return {std::move(flipped.v), std::move(flipped.u), std::move(flipped.s)};
  }
  Matrix w = a, v(a.columns, a.columns);
  for (std::size_t j = 0; j < a.columns; ++j) v.at(j, j) = 1;
  bool moved = true;
  for (int sweep = 0; moved && sweep < kSweepsMax; ++sweep) {
    moved = false;
    for (std::size_t p = 0; p + 1 < a.columns; ++p) {
      for (std::size_t q = p + 1; q < a.columns; ++q) moved = rotate(w, v, p, q) || moved;
    }
  }
  std::vector<double> lengths(a.columns);
  for (std::size_t j = 0; j < a.columns; ++j) {
    for (std::size_t i = 0; i < a.rows; ++i) lengths[j] = std::hypot(lengths[j], w.at(i, j));
  }
  std::vector<std::size_t> order(a.columns);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order,
                           [&](std::size_t x, std::size_t y) { return lengths[x] > lengths[y]; });
  Svd result{Matrix(a.rows, a.columns), Matrix(a.columns, a.columns), {}};
  for (std::size_t j = 0; j < a.columns; ++j) {
    const double length = lengths[order[j]];
    result.s.push_back(length);
    for (std::size_t i = 0; i < a.rows; ++i) {
      result.u.at(i, j) = length > 0 ? w.at(i, order[j]) / length : 0;
    }
    for (std::size_t i = 0; i < a.columns; ++i) result.v.at(i, j) = v.at(i, order[j]);
  }
  return result;
}

}  // namespace fedctl::math

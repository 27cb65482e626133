#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/rng.hpp"
#include "math/matrix.hpp"
#include "math/vectors.hpp"

using namespace fedctl;
using namespace fedctl::math;

namespace {

Matrix random_matrix(std::size_t rows, std::size_t columns, std::size_t rank, std::uint64_t seed) {
  Rng rng(seed);
  Matrix left(rows, rank), right(rank, columns);
  for (double& value : left.values) value = rng.normal();
  for (double& value : right.values) value = rng.normal();
  return product(left, right);
}

double gap(Matrix a, const Matrix& b) {
  REQUIRE(a.values.size() == b.values.size());
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] -= b.values[i];
  return frobenius_norm(a);
}

// |m^T m - 1|, over the first `count` columns.
double unorthogonal(const Matrix& m, std::size_t count) {
  const Matrix gram = product(transposed(m), m);
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < count; ++j)
      worst = std::max(worst, std::abs(gram.at(i, j) - (i == j ? 1 : 0)));
  }
  return worst;
}

}  // namespace

TEST_CASE("vectors: sums in double", "[math]") {
  const std::vector<float> a{3, 4}, b{0, 8};
  CHECK(dot(a, b) == 32);
  CHECK(norm(a) == 5);
  CHECK(distance(a, b) == 5);
  CHECK(squared_distance(a, b) == 25);
  CHECK(all_finite(a));
  CHECK_FALSE(all_finite(std::vector<float>{1, std::numeric_limits<float>::infinity()}));
  // In float the sum of a million 0.1 is off by a percent.
  const std::vector<float> many(1'000'000, 0.1F), ones(1'000'000, 1.0F);
  const auto of = [&](std::size_t at, std::size_t count, double before) {
    return squared_distance(std::span(many).subspan(at, count), std::span(ones).subspan(at, count),
                            before);
  };
  CHECK(of(333'333, 666'667, of(0, 333'333, 0)) == squared_distance(many, ones));
  CHECK(dot(many, ones) == Approx(1e6 * static_cast<double>(0.1F)).epsilon(1e-12));
}

TEST_CASE("qr: orthonormal, triangular, and the product is the matrix", "[math][property]") {
  for (const auto& [rows, columns] :
       {std::pair<std::size_t, std::size_t>{7, 4}, {4, 7}, {5, 5}, {1, 3}, {3, 1}}) {
    INFO(rows << " x " << columns);
    const Matrix a = random_matrix(rows, columns, std::min(rows, columns), rows * 31 + columns);
    const Qr found = qr(a);
    CHECK(gap(product(found.q, found.r), a) < 1e-12);
    CHECK(unorthogonal(found.q, found.q.columns) < 1e-13);
    for (std::size_t i = 0; i < found.r.rows; ++i) {
      for (std::size_t j = 0; j < std::min(i, columns); ++j) CHECK(found.r.at(i, j) == 0);
    }
  }
  CHECK(gap(product(qr(Matrix(3, 2)).q, qr(Matrix(3, 2)).r), Matrix(3, 2)) == 0);
}

TEST_CASE("svd: orthonormal, descending, and the product is the matrix", "[math][property]") {
  for (const auto& [rows, columns] :
       {std::pair<std::size_t, std::size_t>{9, 5}, {5, 9}, {6, 6}, {1, 4}}) {
    INFO(rows << " x " << columns);
    const Matrix a = random_matrix(rows, columns, std::min(rows, columns), rows * 37 + columns);
    const Svd found = svd(a);
    Matrix scaled = found.u;
    for (std::size_t i = 0; i < scaled.rows; ++i) {
      for (std::size_t j = 0; j < scaled.columns; ++j) scaled.at(i, j) *= found.s[j];
    }
    CHECK(gap(product(scaled, transposed(found.v)), a) < 1e-12 * frobenius_norm(a));
    CHECK(unorthogonal(found.u, found.s.size()) < 1e-12);
    CHECK(unorthogonal(found.v, found.s.size()) < 1e-12);
    CHECK(std::is_sorted(found.s.rbegin(), found.s.rend()));
  }
}

TEST_CASE("svd finds the rank and the values of a known matrix", "[math]") {
  const Svd low = svd(random_matrix(20, 12, 3, 5));
  CHECK(low.s[2] > 0.1);
  CHECK(low.s[3] < 1e-12 * low.s[0]);
  Matrix known(2, 2);  // singular values sqrt(45) and sqrt(5)
  known.values = {3, 0, 4, 5};
  CHECK(svd(known).s[0] == Approx(std::sqrt(45.0)).epsilon(1e-14));
  CHECK(svd(known).s[1] == Approx(std::sqrt(5.0)).epsilon(1e-14));
}

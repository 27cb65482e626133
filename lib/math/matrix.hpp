// Small dense matrices in double, row-major, and their decompositions. For the server's algebra on
// low-rank updates, where matrices are at most a few thousand on a side; no BLAS, so that results
// are the same everywhere.
#pragma once

#include <cstddef>
#include <vector>

namespace fedctl::math {

struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<double> values;  // rows * columns

  Matrix() = default;
  Matrix(std::size_t rows_, std::size_t columns_)
      : rows(rows_), columns(columns_), values(rows_ * columns_) {}
  double& at(std::size_t row, std::size_t column) { return values[row * columns + column]; }
  double at(std::size_t row, std::size_t column) const { return values[row * columns + column]; }
  bool operator==(const Matrix&) const = default;
};

Matrix transposed(const Matrix& a);
// Precondition: a.columns == b.rows.
Matrix product(const Matrix& a, const Matrix& b);
double frobenius_norm(const Matrix& a);

// Thin QR by Householder reflections (Golub and Van Loan, algorithm 5.2.1): a = q r, q (rows x k)
// with orthonormal columns, r (k x columns) upper triangular, k = min(rows, columns). Costs 2 rows
// columns k.
struct Qr {
  Matrix q, r;
};
Qr qr(const Matrix& a);

// Thin SVD by one-sided Jacobi rotations (Hestenes 1958; Demmel and Veselic 1992 on its accuracy):
// a = u diag(s) v^T, s descending, u (rows x k), v (columns x k), k = min(rows, columns). A column
// of u whose singular value is zero is zero.
struct Svd {
  Matrix u, v;
  std::vector<double> s;
};
Svd svd(const Matrix& a);

}  // namespace fedctl::math

#include "methods/detail/projection.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "math/normals.hpp"
#include "math/vectors.hpp"

namespace fedctl::methods {
namespace {

// Of sqrt 2 erfinv(y) = sum_n c_n y^(2n + 1): c_n = sqrt 2 (sqrt pi / 2)^(2n + 1) a_n / (2n + 1),
// a_n = sum_m a_m a_{n-1-m} / ((m + 1)(2m + 1)), a_0 = 1.
std::vector<float> inverse_series(std::size_t terms) {
  std::vector<double> a = {1};
  std::vector<float> series;
  for (std::size_t n = 0; n < terms; ++n) {
    if (n > 0) {
      double next = 0;
      for (std::size_t m = 0; m < n; ++m) {
        next += a[m] * a[n - 1 - m] / static_cast<double>((m + 1) * (2 * m + 1));
      }
      a.push_back(next);
    }
    const auto power = static_cast<double>(2 * n + 1);
    series.push_back(static_cast<float>(
        std::numbers::sqrt2 * std::pow(1 / (2 * std::numbers::inv_sqrtpi), power) * a[n] / power));
  }
  return series;
}

// rho = 1 - 2 a psi(a) / (2 Phi(a) - 1), a = 1 / sqrt d; its series where that cancels.
double truncated_moment(double d) {
  if (d >= 100) return (1 - 2 / (15 * d)) / (3 * d);
  const double a = 1 / std::sqrt(d);
  const double density = std::exp(-a * a / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
  return 1 - 2 * a * density / std::erf(a / std::numbers::sqrt2);
}

}  // namespace

Basis::Basis(const std::string& kind, std::size_t size) : size_(size), sign_(kind == "sign") {
  if (sign_) return;
  const auto d = static_cast<double>(size);
  rho_ = truncated_moment(d);
  reach_ = static_cast<float>(std::erf(1 / std::sqrt(2 * d)));
  series_ = inverse_series(size >= 100 ? 4 : 24);  // the first term left out is below 1e-8
}

void Basis::fill(std::uint64_t key, std::span<float> out) const {
  math::fill_uniforms(key, 0, out);
  if (sign_) {
    for (float& value : out) value = value < 0.5F ? -1.0F : 1.0F;
    return;
  }
  const std::size_t last = series_.size() - 1;
  for (float& value : out) {
    const float y = (2 * value - 1) * reach_, q = y * y;
    float sum = series_[last];
    for (std::size_t n = last; n-- > 0;) sum = sum * q + series_[n];
    value = sum * y;
  }
}

std::vector<float> project(const Basis& basis, std::span<const float> values, std::size_t count,
                           const KeyOf& key) {
  std::vector<float> v(basis.size()), gammas(count);
  for (std::size_t k = 0; k < count; ++k) {
    basis.fill(key(k), v);
    gammas[k] =
        static_cast<float>(math::dot(v, values) / (basis.rho() * static_cast<double>(count)));
  }
  return gammas;
}

void reconstruct(const Basis& basis, std::span<const float> gammas, const KeyOf& key, double factor,
                 double clip, std::span<float> target) {
  std::vector<float> v(basis.size());
  for (std::size_t k = 0; k < gammas.size(); ++k) {
    if (gammas[k] == 0) continue;
    basis.fill(key(k), v);
    double by = gammas[k];
    if (clip > 0) by /= std::max(1.0, std::abs(by) * math::norm(v) / clip);
    const auto scale = static_cast<float>(factor * by);
    for (std::size_t i = 0; i < v.size(); ++i) target[i] += scale * v[i];
  }
}

std::vector<Run> packed_blocks(const Layout& layout) {
  std::vector<std::size_t> sizes;
  for (const Block& block : layout.blocks()) sizes.push_back(block.count);
  std::ranges::nth_element(sizes, sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2));
  const double full = 0.9 * static_cast<double>(sizes[sizes.size() / 2]);
  std::vector<Run> runs;
  for (const Block& block : layout.blocks()) {
    if (runs.empty() || static_cast<double>(runs.back().count) > full) {
      runs.push_back({block.offset, 0});
    }
    runs.back().count += block.count;
  }
  return runs;
}

std::vector<std::size_t> allot(std::span<const double> shares, std::size_t most) {
  const double largest = *std::ranges::max_element(shares);
  std::vector<std::size_t> counts;
  for (const double share : shares) {
    const double part = largest > 0 ? share / largest * static_cast<double>(most) : 0;
    counts.push_back(std::clamp<std::size_t>(static_cast<std::size_t>(part), 2, 65535));
  }
  return counts;
}

}  // namespace fedctl::methods

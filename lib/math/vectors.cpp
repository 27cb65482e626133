#include "math/vectors.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"
#include "base/floats.hpp"

namespace fedctl::math {

double dot(std::span<const float> a, std::span<const float> b) {
  FEDCTL_ASSERT(a.size() == b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double norm(std::span<const float> a) { return std::sqrt(dot(a, a)); }

double distance(std::span<const float> a, std::span<const float> b) {
  return std::sqrt(squared_distance(a, b));
}

double squared_distance(std::span<const float> a, std::span<const float> b, double before) {
  FEDCTL_ASSERT(a.size() == b.size());
  double sum = before;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double gap = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += gap * gap;
  }
  return sum;
}

bool all_finite(std::span<const float> a) {
  return !first_not_finite(a);
}

}  // namespace fedctl::math

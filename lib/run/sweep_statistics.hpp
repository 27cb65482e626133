// Means over seeds with Student's t intervals.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace fedctl::run {

inline constexpr double kConfidence = 0.95;

// The t with which |T| <= t has this probability, T with that many degrees of freedom (1 or more):
// 12.706 for 0.95 and 1. Exact up to rounding (Abramowitz & Stegun 26.7.3 and 26.7.4).
double student_t(double confidence, std::size_t degrees);

struct Interval {
  std::size_t count = 0;
  double mean = 0;                   // 0 of nothing
  std::optional<double> half_width;  // of the 95 % interval; none for fewer than two values
};
// mean +- t s / sqrt(n), s the root of the unbiased variance.
Interval interval_of(std::span<const double> values);

}  // namespace fedctl::run

#include "run/sweep_statistics.hpp"

#include <cmath>
#include <numbers>

#include "base/assert.hpp"

namespace fedctl::run {
namespace {

// P(|T| <= t) as a finite sum in cos^2 of the angle whose tangent is t / sqrt(degrees).
double probability_within(double t, std::size_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double sine = std::sin(angle), cosine = std::cos(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1, sum = degrees == 1 ? 0 : term;
  for (std::size_t k = odd ? 3 : 2; k + 2 <= degrees; k += 2) {
    const auto n = static_cast<double>(k);
    term *= (n - 1) / n * cosine * cosine;
    sum += term;
  }
  return odd ? 2 / std::numbers::pi * (angle + sine * sum) : sine * sum;
}

}  // namespace

double student_t(double confidence, std::size_t degrees) {
  FEDCTL_ASSERT(degrees > 0 && confidence > 0 && confidence < 1);
  double low = 0, high = 1;
  while (probability_within(high, degrees) < confidence) high *= 2;
  // Until the two are neighbours.
  while (true) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return high;
    (probability_within(middle, degrees) < confidence ? low : high) = middle;
  }
}

Interval interval_of(std::span<const double> values) {
  Interval interval;
  interval.count = values.size();
  if (values.empty()) return interval;
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  interval.mean = sum / n;
  if (values.size() == 1) return interval;
  double squares = 0;
  for (const double value : values) squares += (value - interval.mean) * (value - interval.mean);
  interval.half_width =
      student_t(kConfidence, values.size() - 1) * std::sqrt(squares / (n - 1)) / std::sqrt(n);
  return interval;
}

}  // namespace fedctl::run

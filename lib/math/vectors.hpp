// Sums over float spans, in double and in order, so that they are the same everywhere.
#pragma once

#include <span>

namespace fedctl::math {

// Preconditions: equal lengths.
double dot(std::span<const float> a, std::span<const float> b);
double norm(std::span<const float> a);                                // Euclidean
double distance(std::span<const float> a, std::span<const float> b);  // Euclidean
bool all_finite(std::span<const float> a);

}  // namespace fedctl::math

// Sums over float spans, in double and in order, so that they are the same everywhere.
#pragma once

#include <span>

namespace fedctl::math {

// Preconditions: equal lengths.
double dot(std::span<const float> a, std::span<const float> b);
double norm(std::span<const float> a);                                // Euclidean
double distance(std::span<const float> a, std::span<const float> b);  // Euclidean
// Its square, and what a sum over earlier pieces came to: the same bits as in one piece.
double squared_distance(std::span<const float> a, std::span<const float> b, double before = 0);
bool all_finite(std::span<const float> a);

}  // namespace fedctl::math

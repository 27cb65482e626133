// One-dimensional k-means by Lloyd's algorithm (IEEE Trans. Inf. Theory 28, 1982) on sorted values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedctl::codec::detail {

// The values at the quantiles (j + 1/2) / clusters. Preconditions: ascending, not empty.
std::vector<float> quantiles(std::span<const float> sorted, std::size_t clusters);

// At most `passes` times: every value belongs to the nearest centroid (of two equally near ones to
// the upper), every centroid becomes the mean of its values; one without values stays. Ends early
// when nothing changes. The sum of squared errors never rises, up to rounding. Preconditions: both
// ascending, not empty.
std::vector<float> lloyd(std::span<const float> sorted, std::vector<float> centroids,
                         std::size_t passes);

// The number of the nearest of ascending centroids. Precondition: not empty, at most 256.
std::uint8_t nearest(std::span<const float> centroids, float value);

}  // namespace fedctl::codec::detail

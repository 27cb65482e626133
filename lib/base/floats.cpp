#include "base/floats.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/clones.hpp"

namespace fedctl {
namespace {

constexpr std::uint32_t kMagnitude = 0x7fffffff;  // as integers ordered like the values, NaN last

// Without a branch for each value, so that several are taken at once.
FEDCTL_CLONES bool any_beyond(std::uint32_t most, const float* values, std::size_t count) {
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < count; ++i) {
    bad |= (std::bit_cast<std::uint32_t>(values[i]) & kMagnitude) > most ? 1U : 0U;
  }
  return bad != 0;
}

}  // namespace

std::optional<std::size_t> first_not_finite(std::span<const float> values) {
  return first_beyond(std::numeric_limits<float>::max(), values);
}

std::optional<std::size_t> first_beyond(float most, std::span<const float> values) {
  constexpr std::size_t kPiece = 1024;
  for (std::size_t first = 0; first < values.size(); first += kPiece) {
    const auto piece = values.subspan(first, std::min(kPiece, values.size() - first));
    if (!any_beyond(std::bit_cast<std::uint32_t>(most), piece.data(), piece.size())) continue;
    const auto found =
        std::ranges::find_if(piece, [most](float value) { return !(std::abs(value) <= most); });
    return first + static_cast<std::size_t>(found - piece.begin());
  }
  return std::nullopt;
}

}  // namespace fedctl

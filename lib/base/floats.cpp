#include "base/floats.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace fedctl {

std::optional<std::size_t> first_not_finite(std::span<const float> values) {
  constexpr std::size_t kPiece = 1024;
  constexpr std::uint32_t kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;
  for (std::size_t first = 0; first < values.size(); first += kPiece) {
    const auto piece = values.subspan(first, std::min(kPiece, values.size() - first));
    // Without a branch for each value the compiler takes several at once.
    std::uint32_t bad = 0;
    for (const float value : piece) {
      bad |= (std::bit_cast<std::uint32_t>(value) & kMagnitude) >= kInfinity ? 1U : 0U;
    }
    if (bad == 0) continue;
    const auto found = std::ranges::find_if(piece, [](float v) { return !std::isfinite(v); });
    return first + static_cast<std::size_t>(found - piece.begin());
  }
  return std::nullopt;
}

}  // namespace fedctl

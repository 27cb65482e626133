// Twenty glyphs as strokes in the unit square, y downwards.
#pragma once

#include <cstddef>
#include <vector>

namespace fedctl::data {

struct Point {
  double x = 0, y = 0;
};
using Stroke = std::vector<Point>;
using Glyph = std::vector<Stroke>;

inline constexpr std::size_t kGlyphs = 20;
const std::vector<Glyph>& glyph_shapes();

}  // namespace fedctl::data

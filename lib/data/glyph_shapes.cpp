#include "data/detail/glyph_shapes.hpp"

#include <cmath>
#include <numbers>

#include "base/assert.hpp"

namespace fedctl::data {
namespace {

// Part of an ellipse; angles in turns, from the right, clockwise as y points down.
Stroke arc(double cx, double cy, double rx, double ry, double from, double to) {
  constexpr int kPieces = 10;
  Stroke stroke;
  for (int i = 0; i <= kPieces; ++i) {
    const double angle = 2 * std::numbers::pi * (from + (to - from) * i / kPieces);
    stroke.push_back({cx + rx * std::cos(angle), cy + ry * std::sin(angle)});
  }
  return stroke;
}

std::vector<Glyph> make_shapes() {
  return {
      {arc(0.5, 0.5, 0.35, 0.42, 0, 1)},                                      // ring
      {{{0.5, 0.05}, {0.5, 0.95}}, {{0.25, 0.3}, {0.5, 0.05}, {0.75, 0.3}}},  // arrow up
      {{{0.15, 0.1}, {0.85, 0.1}, {0.2, 0.9}, {0.85, 0.9}}},                  // zigzag
      {{{0.15, 0.1}, {0.85, 0.9}}, {{0.85, 0.1}, {0.15, 0.9}}},               // cross
      {{{0.5, 0.08}, {0.1, 0.9}, {0.9, 0.9}, {0.5, 0.08}}},                   // triangle
      {{{0.15, 0.1}, {0.15, 0.9}, {0.85, 0.9}},
       arc(0.6, 0.35, 0.2, 0.2, 0, 1)},                                     // corner with ring
      {{{0.1, 0.5}, {0.9, 0.5}}, {{0.5, 0.1}, {0.5, 0.9}}},                 // plus
      {{{0.2, 0.05}, {0.2, 0.95}}, arc(0.2, 0.7, 0.5, 0.25, -0.25, 0.25)},  // b
      {arc(0.5, 0.28, 0.3, 0.2, 0, 1), arc(0.5, 0.72, 0.35, 0.22, 0, 1)},   // eight
      {{{0.1, 0.1}, {0.5, 0.9}, {0.9, 0.1}}, {{0.3, 0.5}, {0.7, 0.5}}},     // V with a bar
      {{{0.2, 0.1}, {0.2, 0.9}}, {{0.8, 0.1}, {0.8, 0.9}}, {{0.2, 0.5}, {0.8, 0.5}}},  // H
      {arc(0.55, 0.5, 0.4, 0.42, 0.1, 0.9)},                                           // C
      {{{0.2, 0.95}, {0.2, 0.05}, {0.8, 0.05}}, {{0.2, 0.45}, {0.65, 0.45}}},          // F
      {{{0.1, 0.1}, {0.1, 0.9}, {0.5, 0.45}, {0.9, 0.9}, {0.9, 0.1}}},                 // W
      {{{0.15, 0.1}, {0.85, 0.1}, {0.85, 0.9}, {0.15, 0.9}, {0.15, 0.1}}},             // square
      {arc(0.45, 0.32, 0.28, 0.25, 0, 1), {{0.72, 0.2}, {0.72, 0.95}}},                // nine
      {arc(0.5, 0.3, 0.32, 0.22, 0.5, 1.25), arc(0.5, 0.72, 0.32, 0.22, -0.25, 0.5)},  // S
      {{{0.1, 0.1}, {0.5, 0.5}, {0.9, 0.1}}, {{0.5, 0.5}, {0.5, 0.95}}},               // Y
      {{{0.1, 0.25}, {0.9, 0.25}},
       {{0.1, 0.5}, {0.9, 0.5}},
       {{0.1, 0.75}, {0.9, 0.75}}},  // three bars
      {{{0.5, 0.05}, {0.85, 0.5}, {0.5, 0.95}, {0.15, 0.5}, {0.5, 0.05}},
       {{0.35, 0.5}, {0.65, 0.5}}},  // diamond
  };
}

}  // namespace

const std::vector<Glyph>& glyph_shapes() {
  static const std::vector<Glyph> kShapes = make_shapes();
  FEDCTL_ASSERT(kShapes.size() == kGlyphs);
  return kShapes;
}

}  // namespace fedctl::data

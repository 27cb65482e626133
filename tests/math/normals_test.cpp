#include "math/normals.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

using namespace fedctl;

// scripts/golden/normals.py computes the values in double; the bits are what we have always had.
TEST_CASE("normals by name: known answers", "[math][normals][golden]") {
  struct Known {
    std::uint64_t key;
    std::size_t index;
    double value;
    std::uint32_t bits;
  };
  for (const Known& known : {Known{0x0U, 0, 0.991137666, 0x3f7dbb33},
                             {0x0U, 63, 0.128338245, 0x3e036b1a},
                             {0x0U, 64, -0.924662576, 0xbf6cb6b0},
                             {0x0U, 128, -0.617608903, 0xbf1e1b9d},
                             {0x0U, 255, -1.917776297, 0xbff579b2},
                             {0x0U, 256, 1.832970679, 0x3fea9ec9},
                             {0x123456789abcdefU, 1, -0.381040062, 0xbec317af},
                             {0x123456789abcdefU, 1000003, -0.281987496, 0xbe9060ab},
                             {0xffffffffffffffffU, 1099511627853, 0.458816784, 0x3eeaea09}}) {
    float value = 0;
    math::gather_normals(known.key, std::span(&known.index, 1), std::span(&value, 1));
    INFO(known.key << ", " << known.index);
    CHECK(std::abs(double{value} - known.value) < 4e-7 * std::max(1.0, std::abs(known.value)));
    CHECK(std::bit_cast<std::uint32_t>(value) == known.bits);
  }
}

TEST_CASE("normals by name: the same whatever is asked for with them", "[math][normals]") {
  std::vector<float> whole(5000);
  math::fill_normals(7, 0, whole);
  for (const std::size_t first : {std::size_t{0}, math::kNormalsBlock, 4 * math::kNormalsBlock}) {
    for (const std::size_t count : {1U, 63U, 64U, 255U, 256U, 257U, 700U}) {
      std::vector<float> part(count);
      math::fill_normals(7, first, part);
      CHECK(
          std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
  std::vector<std::size_t> positions;
  for (std::size_t i = 3; i < whole.size(); i += 1 + i % 91) positions.push_back(i);
  std::vector<float> picked(positions.size());
  math::gather_normals(7, positions, picked);
  for (std::size_t n = 0; n < picked.size(); ++n) CHECK(picked[n] == whole[positions[n]]);
  math::fill_normals(7, 0, {});
  math::gather_normals(7, {}, {});
}

TEST_CASE("normals by name: moments, tails, and no correlation between keys", "[math][normals]") {
  constexpr std::size_t kCount = 1 << 20;
  std::vector<float> a(kCount), b(kCount);
  math::fill_normals(1, 0, a);
  math::fill_normals(2, 0, b);
  double mean = 0, square = 0, fourth = 0, cross = 0, neighbours = 0, beyond = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double x = a[i];
    mean += x / kCount;
    square += x * x / kCount;
    fourth += std::pow(x, 4) / kCount;
    cross += x * b[i] / kCount;
    neighbours += x * a[(i + 64) % kCount] / kCount;  // the other value of its pair, for half
    beyond += std::abs(x) > 3 ? 1.0 / kCount : 0;
  }
  const double error = 1 / std::sqrt(static_cast<double>(kCount));  // of a mean of normals
  CHECK(std::abs(mean) < 4 * error);
  CHECK(std::abs(square - 1) < 4 * std::sqrt(2.0) * error);
  CHECK(std::abs(fourth - 3) < 4 * std::sqrt(96.0) * error);
  CHECK(std::abs(cross) < 4 * error);
  CHECK(std::abs(neighbours) < 4 * error);
  CHECK(std::abs(beyond - 0.0026998) < 4 * std::sqrt(0.0027) * error);
}

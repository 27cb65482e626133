#include "math/normals.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/assert.hpp"
#include "base/clones.hpp"

namespace fedctl::math {
namespace {

constexpr std::size_t kLanes = 64;
static_assert(kNormalsBlock == 4 * kLanes);

template <class T>
using Row = std::array<T, kLanes>;

// What every lane does is the same, so the loops below become vector instructions.

FEDCTL_INLINE void philox(std::uint64_t key, const Row<std::uint64_t>& counters,
                          std::array<Row<std::uint32_t>, 4>& words) {
  for (std::size_t l = 0; l < kLanes; ++l) {
    words[0][l] = static_cast<std::uint32_t>(counters[l]);
    words[1][l] = static_cast<std::uint32_t>(counters[l] >> 32);
    words[2][l] = words[3][l] = 0;
  }
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (std::size_t l = 0; l < kLanes; ++l) {
      const std::uint64_t left = std::uint64_t{0xD2511F53} * words[0][l];
      const std::uint64_t right = std::uint64_t{0xCD9E8D57} * words[2][l];
      words[0][l] = static_cast<std::uint32_t>(right >> 32) ^ words[1][l] ^ key0;
      words[1][l] = static_cast<std::uint32_t>(right);
      words[2][l] = static_cast<std::uint32_t>(left >> 32) ^ words[3][l] ^ key1;
      words[3][l] = static_cast<std::uint32_t>(left);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// ln u of a positive normal number: u = m 2^e, m in [1/sqrt 2, sqrt 2), ln m = 2 artanh s with s =
// (m - 1) / (m + 1), |s| < 0.172; the series' first term left out is 4e-10.
FEDCTL_INLINE float logarithm(float u) {
  constexpr std::int32_t kRootHalf = 0x3f3504f3;  // of 1/sqrt 2
  const std::int32_t bits = std::bit_cast<std::int32_t>(u) - kRootHalf;
  const float exponent = static_cast<float>(bits >> 23);
  const float m = std::bit_cast<float>((bits & 0x7fffff) + kRootHalf);
  const float s = (m - 1.0F) / (m + 1.0F);
  const float q = s * s;
  float series = 2.0F / 9;
  series = series * q + 2.0F / 7;
  series = series * q + 2.0F / 5;
  series = series * q + 2.0F / 3;
  series = series * q + 2.0F;
  return series * s + exponent * 0.693147181F;
}

// Box and Muller: two words give two values.
FEDCTL_INLINE void normals_of(const Row<std::uint32_t>& a, const Row<std::uint32_t>& b,
                              float* cosines, float* sines) {
  for (std::size_t l = 0; l < kLanes; ++l) {
    const float u = static_cast<float>(static_cast<std::int32_t>(a[l] >> 8) + 1) * 0x1p-24F;
    const float r = std::sqrt(-2.0F * logarithm(u));
    // The angle is a quarter turn's multiple and a rest in [-pi/4, pi/4): Taylor to x^9 and x^8,
    // whose first terms left out are 2e-9 and 2e-8.
    const std::uint32_t turned = b[l] + 0x20000000U;
    const std::uint32_t quarter = turned >> 30;
    const float x = static_cast<float>(static_cast<std::int32_t>(b[l] << 2) >> 2 << 2) *
                    (1.57079633F * 0x1p-32F);
    const float q = x * x;
    const float sine =
        x + x * q * (-1.0F / 6 + q * (1.0F / 120 + q * (-1.0F / 5040 + q * (1.0F / 362880))));
    const float cosine =
        1.0F + q * (-0.5F + q * (1.0F / 24 + q * (-1.0F / 720 + q * (1.0F / 40320))));
    const bool swap = (quarter & 1) != 0;
    const float c = swap ? sine : cosine, s = swap ? cosine : sine;
    cosines[l] = ((quarter + 1) & 2) != 0 ? -(r * c) : r * c;
    sines[l] = (quarter & 2) != 0 ? -(r * s) : r * s;
  }
}

FEDCTL_INLINE void block_of(std::uint64_t key, const Row<std::uint64_t>& counters, float* out) {
  std::array<Row<std::uint32_t>, 4> words;
  philox(key, counters, words);
  normals_of(words[0], words[1], out, out + kLanes);
  normals_of(words[2], words[3], out + 2 * kLanes, out + 3 * kLanes);
}

FEDCTL_CLONES void whole_blocks(std::uint64_t key, std::uint64_t counter, std::size_t count,
                                float* out) {
  for (std::size_t block = 0; block < count; ++block) {
    Row<std::uint64_t> counters;
    for (std::size_t l = 0; l < kLanes; ++l) counters[l] = counter + block * kLanes + l;
    block_of(key, counters, out + block * kNormalsBlock);
  }
}

FEDCTL_CLONES void uniform_blocks(std::uint64_t key, std::uint64_t counter, std::size_t count,
                                  float* out) {
  for (std::size_t block = 0; block < count; ++block) {
    Row<std::uint64_t> counters;
    for (std::size_t l = 0; l < kLanes; ++l) counters[l] = counter + block * kLanes + l;
    std::array<Row<std::uint32_t>, 4> words;
    philox(key, counters, words);
    float* const to = out + block * kNormalsBlock;
    for (std::size_t w = 0; w < 4; ++w) {
      for (std::size_t l = 0; l < kLanes; ++l) {
        const auto top = static_cast<float>(static_cast<std::int32_t>(words[w][l] >> 8));
        to[w * kLanes + l] = (top + 0.5F) * 0x1p-24F;
      }
    }
  }
}

FEDCTL_CLONES void picked_block(std::uint64_t key, const Row<std::uint64_t>& counters, float* out) {
  block_of(key, counters, out);
}

template <class Blocks>
void fill(const Blocks& blocks_of, std::uint64_t key, std::size_t first, std::span<float> out) {
  FEDCTL_ASSERT(first % kNormalsBlock == 0);
  const std::uint64_t counter = first / 4;
  const std::size_t blocks = out.size() / kNormalsBlock, whole = blocks * kNormalsBlock;
  blocks_of(key, counter, blocks, out.data());
  if (whole == out.size()) return;
  std::array<float, kNormalsBlock> last;
  blocks_of(key, counter + blocks * kLanes, 1, last.data());
  std::copy_n(last.begin(), out.size() - whole, out.begin() + static_cast<std::ptrdiff_t>(whole));
}

}  // namespace

void fill_normals(std::uint64_t key, std::size_t first, std::span<float> out) {
  fill(whole_blocks, key, first, out);
}

void fill_uniforms(std::uint64_t key, std::size_t first, std::span<float> out) {
  fill(uniform_blocks, key, first, out);
}

void gather_normals(std::uint64_t key, std::span<const std::size_t> positions,
                    std::span<float> out) {
  FEDCTL_ASSERT(positions.size() == out.size());
  for (std::size_t first = 0; first < positions.size(); first += kLanes) {
    const auto group = positions.subspan(first, std::min(kLanes, positions.size() - first));
    Row<std::uint64_t> counters{};
    for (std::size_t l = 0; l < group.size(); ++l) {
      counters[l] = group[l] / kNormalsBlock * kLanes + group[l] % kLanes;
    }
    std::array<float, kNormalsBlock> values;
    picked_block(key, counters, values.data());
    for (std::size_t l = 0; l < group.size(); ++l) {
      out[first + l] = values[group[l] % kNormalsBlock / kLanes * kLanes + l];
    }
  }
}

}  // namespace fedctl::math

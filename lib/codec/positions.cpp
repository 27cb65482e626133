#include "codec/detail/positions.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "codec/detail/bits.hpp"

namespace fedctl::codec::detail {
namespace {

// No gap has more bits.
constexpr unsigned kRiceMax = 33;
static_assert(limits::kElementsMax <= std::uint64_t{1} << kRiceMax);

std::size_t kept_in(Chunks chunks) {
  return std::accumulate(chunks.begin(), chunks.end(), std::size_t{0},
                         [](std::size_t sum, const Chunk& chunk) { return sum + chunk.kept; });
}

std::vector<std::size_t> gaps_of(std::span<const std::size_t> positions, Chunks chunks) {
  FEDCTL_ASSERT(positions.size() == kept_in(chunks));
  std::vector<std::size_t> gaps;
  gaps.reserve(positions.size());
  std::size_t first = 0;  // of the chunk
  for (const Chunk& chunk : chunks) {
    std::size_t next = first;  // the lowest position still possible
    for (std::size_t i = 0; i < chunk.kept; ++i) {
      const std::size_t position = positions[gaps.size()];
      FEDCTL_ASSERT(position >= next && position < first + chunk.length);
      gaps.push_back(position - next);
      next = position + 1;
    }
    first += chunk.length;
  }
  return gaps;
}

std::size_t rice_bits(std::span<const std::size_t> gaps, unsigned r) {
  std::size_t bits = gaps.size() * (1 + r);
  for (const std::size_t gap : gaps) bits += gap >> r;
  return bits;
}

// The r with the fewest bits; of equals, the smallest.
unsigned best_rice(std::span<const std::size_t> gaps) {
  unsigned best = 0;
  std::size_t best_bits = rice_bits(gaps, 0);
  for (unsigned r = 1; r <= kRiceMax && gaps.size() * (1 + r) < best_bits; ++r) {
    const std::size_t bits = rice_bits(gaps, r);
    if (bits < best_bits) {
      best = r;
      best_bits = bits;
    }
  }
  return best;
}

}  // namespace

std::size_t positions_bytes_max(Chunks chunks) {
  const std::size_t count = kept_in(chunks);
  if (count == 0) return 0;
  // The gaps of a chunk add up to at most length - kept, and so do their shifted parts to that
  // shifted.
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (unsigned r = 0; r <= kRiceMax; ++r) {
    std::size_t bits = count * (1 + r);
    for (const Chunk& chunk : chunks) bits += (chunk.length - chunk.kept) >> r;
    least = std::min(least, bits);
  }
  return 1 + (least + 7) / 8;
}

void write_positions(std::span<const std::size_t> positions, Chunks chunks, Bytes& out) {
  if (positions.empty()) return;
  const std::vector<std::size_t> gaps = gaps_of(positions, chunks);
  const unsigned r = best_rice(gaps);
  const std::size_t low_bits = (std::size_t{1} << r) - 1;
  out.push_back(static_cast<std::byte>(r));
  BitWriter writer(out);
  for (const std::size_t gap : gaps) {
    writer.unary(gap >> r);
    writer.number(gap & low_bits, r);
  }
  writer.finish();
}

std::vector<std::size_t> read_positions(Chunks chunks, ByteView& encoded) {
  const std::size_t count = kept_in(chunks);
  std::vector<std::size_t> positions;
  if (count == 0) return positions;
  ByteReader header(encoded);
  const auto r = header.number<std::uint8_t>();
  if (r > kRiceMax) throw WireError("positions: Rice parameter " + std::to_string(r));
  BitReader reader(encoded.subspan(1));
  positions.reserve(count);
  std::size_t first = 0;  // of the chunk
  for (const Chunk& chunk : chunks) {
    std::size_t skips_left = chunk.length - chunk.kept;  // what its gaps may still pass over
    std::size_t next = first;
    for (std::size_t i = 0; i < chunk.kept; ++i, ++next) {
      const std::uint64_t high = reader.unary(skips_left >> r);
      const std::size_t gap = (high << r) | reader.number(r);
      if (gap > skips_left) {
        throw WireError("positions: number " + std::to_string(positions.size()) + " of " +
                        std::to_string(count) + " leaves no room below " +
                        std::to_string(first + chunk.length));
      }
      skips_left -= gap;
      next += gap;
      positions.push_back(next);
    }
    first += chunk.length;
  }
  encoded = reader.finish();
  if (best_rice(gaps_of(positions, chunks)) != r) {
    throw WireError("positions: Rice parameter " + std::to_string(r) + " is not the shortest");
  }
  return positions;
}

}  // namespace fedctl::codec::detail

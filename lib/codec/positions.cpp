#include "codec/detail/positions.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "codec/detail/bits.hpp"

namespace fedctl::codec::detail {
namespace {

// No gap has more bits.
constexpr unsigned kRiceMax = 33;
static_assert(limits::kElementsMax <= std::uint64_t{1} << kRiceMax);

std::vector<std::size_t> gaps_of(std::span<const std::size_t> positions) {
  std::vector<std::size_t> gaps;
  gaps.reserve(positions.size());
  std::size_t next = 0;  // the lowest position still possible
  for (const std::size_t position : positions) {
    FEDCTL_ASSERT(position >= next);
    gaps.push_back(position - next);
    next = position + 1;
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

std::size_t positions_bytes_max(std::size_t count, std::size_t length) {
  FEDCTL_ASSERT(count <= length);
  if (count == 0) return 0;
  // The gaps add up to at most length - count, and so do their shifted parts to that shifted.
  std::size_t bits = length;
  for (unsigned r = 1; r <= kRiceMax; ++r) {
    bits = std::min(bits, count * (1 + r) + ((length - count) >> r));
  }
  return 1 + (bits + 7) / 8;
}

void write_positions(std::span<const std::size_t> positions, Bytes& out) {
  if (positions.empty()) return;
  const std::vector<std::size_t> gaps = gaps_of(positions);
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

std::vector<std::size_t> read_positions(std::size_t count, std::size_t length, ByteView& encoded) {
  FEDCTL_ASSERT(count <= length);
  std::vector<std::size_t> positions;
  if (count == 0) return positions;
  ByteReader header(encoded);
  const auto r = header.number<std::uint8_t>();
  if (r > kRiceMax) throw WireError("positions: Rice parameter " + std::to_string(r));
  BitReader reader(encoded.subspan(1));
  positions.reserve(count);
  std::size_t skips_left = length - count;  // what all gaps together may still pass over
  for (std::size_t next = 0; positions.size() < count; ++next) {
    const std::uint64_t high = reader.unary(skips_left >> r);
    const std::size_t gap = (high << r) | reader.number(r);
    if (gap > skips_left) {
      throw WireError("positions: number " + std::to_string(positions.size()) + " of " +
                      std::to_string(count) + " leaves no room below " + std::to_string(length));
    }
    skips_left -= gap;
    next += gap;
    positions.push_back(next);
  }
  encoded = reader.finish();
  if (best_rice(gaps_of(positions)) != r) {
    throw WireError("positions: Rice parameter " + std::to_string(r) + " is not the shortest");
  }
  return positions;
}

}  // namespace fedctl::codec::detail

// Sizes of entropy-coded numbers, in integers: a choice made by them is the same on every machine.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace fedctl::codec::detail {

// log2(value) with 16 bits behind the point, rounded down. Precondition: value > 0.
inline std::uint64_t log2_q16(std::uint32_t value) {
  const auto whole = static_cast<unsigned>(std::bit_width(value)) - 1;
  std::uint64_t mantissa = std::uint64_t{value} << (31 - whole);  // in [1, 2), 31 bits behind
  std::uint64_t fraction = 0;
  for (int bit = 0; bit < 16; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    const std::uint64_t carry = mantissa >> 32;
    fraction = (fraction << 1) | carry;
    mantissa >>= carry;
  }
  return (std::uint64_t{whole} << 16) | fraction;
}

// Bits, times 65536, of numbers that occur so often at their entropy.
inline std::uint64_t entropy_q16(std::span<const std::uint32_t> counts) {
  std::uint64_t total = 0, bits = 0;
  for (const std::uint32_t count : counts) {
    total += count;
    if (count > 1) bits += count * log2_q16(count);
  }
  return total > 1 ? total * log2_q16(static_cast<std::uint32_t>(total)) - bits : 0;
}

}  // namespace fedctl::codec::detail

// Lengths of a prefix code that is the shortest of those without a code above a given length.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace fedctl::codec::detail {

inline constexpr unsigned kCodeBitsMax = 15;
using CodeLengths = std::array<std::uint8_t, 256>;

// By package-merge (Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman
// codes", JACM 37, 1990). 0 for a symbol that does not occur; 1 for one that occurs alone. Equal
// counts have equal lengths on every machine. Precondition: at most 256 counts.
CodeLengths code_lengths(std::span<const std::uint64_t> counts);

}  // namespace fedctl::codec::detail

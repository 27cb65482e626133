// rANS with a static table: numbers of a small alphabet at their entropy (Duda, "Asymmetric numeral
// systems", arXiv 1311.2540; interleaved as in Giesen, arXiv 1402.3392).
//
// Bytes for n numbers below an alphabet's size; for n = 0 none:
//   table    for every number below the alphabet's size its frequency f of 2^14, LEB128; they add
//            up to 2^14, and what occurs has at least 1
//   unless one number has all of it:
//     u32 x s  the states, of number 0, 1, 2, 3 of the row first; s = 1 if n times the entropy of
//              the table (detail/entropy.hpp) is below 4096 bits, else 4
//     u16 ...  in the order in which the reader needs them
// Number i belongs to state i mod s. Reading: slot = x mod 2^14 lies in the range of the number;
// x <- f (x / 2^14) + slot - start of the range; below 2^16 it is shifted and takes a u16. At the
// end every state is 2^16.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace fedctl::codec::detail {

// Upper bound of what rans_encode() appends.
std::size_t rans_bytes_max(std::size_t count, unsigned alphabet);

// Appends. Precondition: 2 <= alphabet <= 256, all symbols below it.
void rans_encode(std::span<const std::uint8_t> symbols, unsigned alphabet, Bytes& out);

// Fills `symbols` and removes what it read from the front of `encoded`. Throws WireError on bytes
// that rans_encode() could not have written for as many symbols.
void rans_decode(ByteView& encoded, unsigned alphabet, std::span<std::uint8_t> symbols);

}  // namespace fedctl::codec::detail

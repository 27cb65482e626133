// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) by number, for random signs and places that a
// receiver computes from a seed.
#pragma once

#include <cstdint>

namespace fedctl::codec::detail {

// Word `index` (from 0) of the generator whose state is `seed`.
inline std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t word = seed + (index + 1) * 0x9e37'79b9'7f4a'7c15U;
  word = (word ^ (word >> 30)) * 0xbf58'476d'1ce4'e5b9U;
  word = (word ^ (word >> 27)) * 0x94d0'49bb'1331'11ebU;
  return word ^ (word >> 31);
}

}  // namespace fedctl::codec::detail

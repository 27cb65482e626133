// Shamir's secret sharing of a key: any `threshold` of the shares give it back, fewer tell nothing.
// Shamir, "How to share a secret", CACM 22(11), 1979; modulo 2^31 + 11, nine pieces of 31 bits, so
// a share is 36 bytes. The 23 bits that the pieces have beyond the key hold a check of it: wrong
// shares among right ones are found out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "secure/keys.hpp"

namespace fedctl::secure {

using Share = std::array<std::uint32_t, 9>;
inline constexpr std::size_t kShareBytes = 36;
// Stands where somebody has no share to give.
inline constexpr Share kNoShare = {~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U};
bool is_share(const Share& share);  // all pieces below the modulus

// Share n is the polynomials' value at n + 1. Precondition: 1 <= threshold <= count < 2^31.
std::vector<Share> split(const Key& secret, std::size_t threshold, std::size_t count);

struct Held {
  std::uint32_t number = 0;  // n: which share it is
  Share share{};
};
// The key that `threshold` of these shares agree on. nullopt if there are fewer, or if none of a
// few hundred choices of as many are different shares of one key.
std::optional<Key> join(std::span<const Held> held, std::size_t threshold);

void write_share(const Share& share, Bytes& out);
Share read_share(ByteReader& in);  // throws WireError

}  // namespace fedctl::secure

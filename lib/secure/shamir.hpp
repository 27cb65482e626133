// Shamir's secret sharing of a key: any `threshold` of the shares give it back, fewer tell nothing.
// Shamir, "How to share a secret", CACM 22(11), 1979; modulo 2^31 + 11, nine pieces of 31 bits, so
// a share is 36 bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "secure/keys.hpp"

namespace fedctl::secure {

using Share = std::array<std::uint32_t, 9>;
inline constexpr std::size_t kShareBytes = 36;

// Share n is the polynomials' value at n + 1. Precondition: 1 <= threshold <= count < 2^31.
std::vector<Share> split(const Key& secret, std::size_t threshold, std::size_t count);

struct Held {
  std::uint32_t number = 0;  // n: which share it is
  Share share{};
};
// The key, of exactly the first `threshold` shares. nullopt if there are fewer, if two are the same
// one, or if they are not of one key.
std::optional<Key> join(std::span<const Held> held, std::size_t threshold);

void write_share(const Share& share, Bytes& out);
Share read_share(ByteReader& in);  // throws WireError

}  // namespace fedctl::secure

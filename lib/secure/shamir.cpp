#include "secure/shamir.hpp"

#include <sodium/crypto_hash_sha256.h>
#include <sodium/randombytes.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/rng.hpp"

namespace fedctl::secure {
namespace {

constexpr std::uint64_t kPrime = 2147483659;  // 2^31 + 11
constexpr unsigned kPieceBits = 31, kKeyBits = 256;
constexpr unsigned kLastBits = kKeyBits % kPieceBits;  // of the key, in the last piece
constexpr int kChoicesMax = 256;

std::uint64_t power(std::uint64_t base, std::uint64_t exponent) {
  std::uint64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = result * base % kPrime;
    base = base * base % kPrime;
  }
  return result;
}

std::uint64_t random_element() {
  // The first multiple of the prime below 2^32 has no remainder left over.
  while (true) {
    const std::uint64_t word = randombytes_random();
    if (word < kPrime) return word;
  }
}

// The check's bits.
std::uint32_t check_of(const Key& secret) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash;
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(secret.data()),
                     secret.size());
  const std::uint32_t low = hash[0] | hash[1] << 8 | hash[2] << 16;
  return low & ((1U << (kPieceBits - kLastBits)) - 1);
}

Share pieces_of(const Key& secret) {
  Share pieces{};
  for (std::size_t bit = 0; bit < kKeyBits; ++bit) {
    const bool set = (std::to_integer<unsigned>(secret[bit / 8]) >> (bit % 8) & 1) != 0;
    if (set) pieces[bit / kPieceBits] |= 1U << (bit % kPieceBits);
  }
  pieces.back() |= check_of(secret) << kLastBits;
  return pieces;
}

// Of exactly these shares; nullopt if two are the same one, or if they are not of one key.
std::optional<Key> interpolate(std::span<const Held> held) {
  // Lagrange's weights at 0.
  std::vector<std::uint64_t> weights;
  for (const Held& one : held) {
    const std::uint64_t x = std::uint64_t{one.number} + 1;
    std::uint64_t top = 1, bottom = 1;
    for (const Held& other : held) {
      if (&other == &one) continue;
      const std::uint64_t y = std::uint64_t{other.number} + 1;
      if (x == y || x >= kPrime || y >= kPrime) return std::nullopt;
      top = top * y % kPrime;
      bottom = bottom * ((y + kPrime - x) % kPrime) % kPrime;
    }
    weights.push_back(top * power(bottom, kPrime - 2) % kPrime);
  }
  Key secret{};
  Share pieces{};
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < held.size(); ++i) {
      value = (value + weights[i] * (held[i].share[piece] % kPrime)) % kPrime;
    }
    pieces[piece] = static_cast<std::uint32_t>(value);
    const std::size_t first = piece * kPieceBits;
    for (std::size_t bit = first; bit < std::min<std::size_t>(kKeyBits, first + kPieceBits);
         ++bit) {
      if ((value >> (bit - first) & 1) != 0) secret[bit / 8] |= std::byte{1} << (bit % 8);
    }
  }
  if (pieces != pieces_of(secret)) return std::nullopt;
  return secret;
}

}  // namespace

std::vector<Share> split(const Key& secret, std::size_t threshold, std::size_t count) {
  FEDCTL_ASSERT(threshold >= 1 && threshold <= count);
  const Share pieces = pieces_of(secret);
  std::vector<Share> shares(count);
  std::vector<std::uint64_t> coefficients(threshold);
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    coefficients[0] = pieces[piece];
    for (std::size_t k = 1; k < threshold; ++k) coefficients[k] = random_element();
    for (std::size_t n = 0; n < count; ++n) {
      std::uint64_t value = 0;
      for (std::size_t k = threshold; k-- > 0;) {
        value = (value * (n + 1) + coefficients[k]) % kPrime;
      }
      shares[n][piece] = static_cast<std::uint32_t>(value);
    }
  }
  return shares;
}

bool is_share(const Share& share) {
  return std::ranges::all_of(share, [](std::uint32_t piece) { return piece < kPrime; });
}

std::optional<Key> join(std::span<const Held> held, std::size_t threshold) {
  if (held.size() < threshold || threshold == 0) return std::nullopt;
  std::vector<Held> order(held.begin(), held.end());
  Rng rng(held.size());
  const int choices = held.size() > threshold ? kChoicesMax : 1;
  for (int choice = 0; choice < choices; ++choice) {
    if (auto key = interpolate(std::span(order).first(threshold))) return key;
    rng.shuffle(std::span(order));
  }
  return std::nullopt;
}

void write_share(const Share& share, Bytes& out) {
  ByteWriter writer(out);
  for (const std::uint32_t piece : share) writer.number(piece);
}

Share read_share(ByteReader& in) {
  Share share;
  for (std::uint32_t& piece : share) piece = in.number<std::uint32_t>();
  return share;
}

}  // namespace fedctl::secure

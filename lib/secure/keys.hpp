// Keys, key agreement and sealed letters between two clients: X25519 (RFC 7748), HKDF-SHA256 (RFC
// 5869), ChaCha20-Poly1305 (RFC 8439), by libsodium. Secrets come from the system's generator.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/bytes.hpp"

namespace fedctl::secure {

using Key = std::array<std::byte, 32>;

struct KeyPair {
  Key secret{}, open{};
};
KeyPair make_pair();
Key open_of(const Key& secret);
Key random_key();
// False for an open key of small order: whoever agrees on a key with its owner agrees on none.
bool usable(const Key& open);

// The key that two parties share: HKDF of their X25519 secret. `purpose` and both open keys, in
// order, are bound in. The same on both sides; nullopt for an open key of small order.
std::optional<Key> agree(const Key& secret, const Key& own_open, const Key& their_open,
                         std::string_view purpose);

// HKDF-SHA256, 32 bytes.
Key hkdf(ByteView secret, ByteView salt, ByteView info);

inline constexpr std::size_t kSealBytes = 28;  // that seal() adds
// Under a fresh nonce. open_sealed(): nullopt if it was not sealed with that key.
Bytes seal(const Key& key, ByteView plain);
std::optional<Bytes> open_sealed(const Key& key, ByteView sealed);

}  // namespace fedctl::secure

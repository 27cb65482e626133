#include "secure/keys.hpp"

#include <sodium.h>

#include <algorithm>

#include "base/assert.hpp"

namespace fedctl::secure {
namespace {

const unsigned char* raw(ByteView bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* raw(Key& key) { return reinterpret_cast<unsigned char*>(key.data()); }
const unsigned char* raw(const Key& key) {
  return reinterpret_cast<const unsigned char*>(key.data());
}

void ready() {
  static const bool kReady = sodium_init() >= 0;
  FEDCTL_ASSERT(kReady);
}

Key hmac(ByteView key, ByteView message) {
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, raw(key), key.size());
  crypto_auth_hmacsha256_update(&state, raw(message), message.size());
  Key out;
  crypto_auth_hmacsha256_final(&state, raw(out));
  return out;
}

}  // namespace

Key random_key() {
  ready();
  Key key;
  randombytes_buf(key.data(), key.size());
  return key;
}

bool usable(const Key& open) {
  // Secrets are multiples of the small orders, so that any secret tells.
  Key shared;
  return crypto_scalarmult(raw(shared), raw(random_key()), raw(open)) == 0;
}

Key open_of(const Key& secret) {
  Key open;
  FEDCTL_ASSERT(crypto_scalarmult_base(raw(open), raw(secret)) == 0);
  return open;
}

KeyPair make_pair() {
  const Key secret = random_key();
  return {secret, open_of(secret)};
}

Key hkdf(ByteView secret, ByteView salt, ByteView info) {
  const Key extracted = hmac(salt, secret);
  Bytes block(info.begin(), info.end());
  block.push_back(std::byte{1});
  return hmac(extracted, block);
}

std::optional<Key> agree(const Key& secret, const Key& own_open, const Key& their_open,
                         std::string_view purpose) {
  Key shared;
  if (crypto_scalarmult(raw(shared), raw(secret), raw(their_open)) != 0) return std::nullopt;
  Bytes info;
  ByteWriter writer(info);
  writer.text(purpose);
  const bool first = std::ranges::lexicographical_compare(own_open, their_open);
  writer.raw(first ? own_open : their_open);
  writer.raw(first ? their_open : own_open);
  return hkdf(shared, {}, info);
}

Bytes seal(const Key& key, ByteView plain) {
  ready();
  Bytes sealed(crypto_aead_chacha20poly1305_ietf_NPUBBYTES + plain.size() +
               crypto_aead_chacha20poly1305_ietf_ABYTES);
  auto* const out = reinterpret_cast<unsigned char*>(sealed.data());
  randombytes_buf(out, crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
  crypto_aead_chacha20poly1305_ietf_encrypt(out + crypto_aead_chacha20poly1305_ietf_NPUBBYTES,
                                            nullptr, raw(plain), plain.size(), nullptr, 0, nullptr,
                                            out, raw(key));
  return sealed;
}

std::optional<Bytes> open_sealed(const Key& key, ByteView sealed) {
  if (sealed.size() < kSealBytes) return std::nullopt;
  Bytes plain(sealed.size() - kSealBytes);
  const unsigned char* const in = raw(sealed);
  constexpr std::size_t kNonce = crypto_aead_chacha20poly1305_ietf_NPUBBYTES;
  if (crypto_aead_chacha20poly1305_ietf_decrypt(
          reinterpret_cast<unsigned char*>(plain.data()), nullptr, nullptr, in + kNonce,
          sealed.size() - kNonce, nullptr, 0, in, raw(key)) != 0) {
    return std::nullopt;
  }
  return plain;
}

}  // namespace fedctl::secure

#include "base/digest.hpp"

#include <sodium/crypto_generichash_blake2b.h>

namespace fedctl {

struct Digest::State {
  crypto_generichash_blake2b_state inner;
};

Digest::Digest() : state_(std::make_unique<State>()) {
  crypto_generichash_blake2b_init(&state_->inner, nullptr, 0, kBytes);
}
Digest::~Digest() = default;

Digest& Digest::add(ByteView bytes) {
  crypto_generichash_blake2b_update(
      &state_->inner, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  return *this;
}

Digest& Digest::add(std::string_view text) {
  Bytes framed;
  ByteWriter(framed).text(text);
  return add(ByteView(framed));
}

std::array<std::byte, Digest::kBytes> Digest::bytes() {
  std::array<std::byte, kBytes> out{};
  crypto_generichash_blake2b_final(&state_->inner, reinterpret_cast<unsigned char*>(out.data()),
                                   out.size());
  return out;
}

std::string Digest::hex() { return hex_of(bytes()); }

std::string hex_of(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

std::string digest_of(ByteView bytes) { return Digest().add(bytes).hex(); }

}  // namespace fedctl

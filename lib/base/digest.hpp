// Digest: BLAKE2b with 32 bytes of output (RFC 7693; what `b2sum -l 256` prints), by libsodium.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.hpp"

namespace fedctl {

class Digest {
 public:
  static constexpr std::size_t kBytes = 32;

  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  // Raw bytes, nothing added.
  Digest& add(ByteView bytes);
  // A text with its length in front (LEB128), so that neighbours cannot run into each other.
  Digest& add(std::string_view text);

  // Either may be called once, at the end.
  std::array<std::byte, kBytes> bytes();
  std::string hex();  // 64 lower-case digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string digest_of(ByteView bytes);
// Two lower-case digits a byte.
std::string hex_of(ByteView bytes);

}  // namespace fedctl

// Vouching: how clients know what other clients have told the server, and not the server alone.
#pragma once

#include <cstdint>
#include <functional>

#include "base/bytes.hpp"

namespace fedctl::methods {

// Set where there are certificates (docs/security.md); the run's number is bound in.
struct Vouching {
  // The proof that this client says so; none on the server.
  std::function<Bytes(ByteView statement)> sign = {};
  // Throws ProtocolError unless it is one of that client's.
  std::function<void(std::int64_t client, ByteView statement, ByteView proof)> check = {};
};

}  // namespace fedctl::methods

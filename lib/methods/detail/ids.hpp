// Clients in a message: ascending ids as LEB128, the first as it is, each other one as the distance
// to the one before.
#pragma once

#include <vector>

#include "methods/method.hpp"

namespace fedctl::methods {

inline Bytes bytes_of(std::span<const PeerId> ids) {
  Bytes bytes;
  ByteWriter writer(bytes);
  PeerId before = 0;
  for (const PeerId id : ids) {
    writer.varint(static_cast<std::uint64_t>(id - before));
    before = id;
  }
  return bytes;
}

// Throws WireError unless they are strictly ascending ids of clients.
inline std::vector<PeerId> ids_in(ByteView bytes) {
  ByteReader reader(bytes);
  std::vector<PeerId> ids;
  while (!reader.done()) {
    const std::uint64_t step = reader.varint();
    const PeerId before = ids.empty() ? 0 : ids.back();
    if (step > static_cast<std::uint64_t>(limits::kClientsMax - before) ||
        (step == 0 && !ids.empty())) {
      throw WireError("ids of clients are not in order");
    }
    ids.push_back(before + static_cast<PeerId>(step));
  }
  return ids;
}

}  // namespace fedctl::methods

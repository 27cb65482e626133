// Messages from client to client, by way of the server (docs/protocol.md, "Neighbours").
#pragma once

#include "talk/frame_cache.hpp"

namespace fedctl::net {

// To the server: `client` is whom it is for; from the server: who sent it.
inline talk::Message relay_of(talk::PeerId client, ByteView frame) {
  return talk::Message("relay")
      .with("client", client)
      .with("frame", Tensor{DType::u8,
                            {static_cast<std::int64_t>(frame.size())},
                            Bytes(frame.begin(), frame.end())});
}

// Throws ProtocolError if there is none.
inline const Bytes& frame_in(const talk::Message& relay) {
  const auto found = relay.tensors.find("frame");
  if (found == relay.tensors.end() || found->second.dtype != DType::u8) {
    throw ProtocolError("\"relay\" without a frame");
  }
  return found->second.bytes;
}

}  // namespace fedctl::net

// What one side has of a frame in chunks, as it tells the other one: {text "have", integer
// "chunks"}.
#pragma once

#include "wire/chunk.hpp"

namespace fedctl::net {

wire::Message with_progress(wire::Message message, const wire::Transfer& transfer);

struct Progress {
  wire::TransferId id{};
  std::size_t chunks = 0;  // 0: none
  // Of a frame with this id and that many chunks.
  std::size_t of(const wire::TransferId& frame, std::size_t count) const {
    return count > 1 && frame == id ? std::min(chunks, count) : 0;
  }
};
// Throws ProtocolError if it is none.
Progress progress_in(const wire::Message& message);

}  // namespace fedctl::net

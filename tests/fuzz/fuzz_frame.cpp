// Any bytes as a frame, as chunks and as a message: only WireError may escape, and what decodes
// encodes to the same bytes.
#include <algorithm>
#include <cstdlib>

#include "wire/chunk.hpp"
#include "wire/owned.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try {
    wire::Header header;
    wire::decode_frame(bytes, header);
  } catch (const WireError&) {
  }
  try {
    // Heads, each with a piece of zeros as long as four more bytes say.
    wire::Transfer transfer;
    for (ByteReader reader(bytes); reader.left() >= wire::kChunkHeadBytes + 4;) {
      const ByteView head = reader.raw(wire::kChunkHeadBytes);
      Bytes body(head.begin(), head.end());
      body.resize(body.size() + reader.number<std::uint32_t>() % (2 * limits::kChunkBytes));
      transfer.add({wire::FrameType::chunk, 0, 1, 0}, body, std::size_t{1} << 20);
    }
  } catch (const WireError&) {
  }
  try {
    for (const wire::Message& message :
         {wire::decode(bytes), wire::decode_owned(Bytes(bytes.begin(), bytes.end()), 0)}) {
      Bytes again;
      wire::encode(message, again);
      if (!std::ranges::equal(again, bytes)) std::abort();
    }
  } catch (const WireError&) {
  }
  return 0;
}

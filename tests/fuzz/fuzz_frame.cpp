// Any bytes as a frame and as a message: only WireError may escape, and what decodes encodes to the
// same bytes.
#include <algorithm>
#include <cstdlib>

#include "wire/frame.hpp"

using namespace fedctl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try {
    wire::Header header;
    wire::decode_frame(bytes, header);
  } catch (const WireError&) {
  }
  try {
    const wire::Message message = wire::decode(bytes);
    Bytes again;
    wire::encode(message, again);
    if (!std::ranges::equal(again, bytes)) std::abort();
  } catch (const WireError&) {
  }
  return 0;
}

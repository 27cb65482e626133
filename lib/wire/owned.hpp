// Decoding of a buffer that nobody else needs: the message's last tensor takes its memory over, so
// that a large one is never there twice. The same checks and results as wire/message.hpp's and
// wire/frame.hpp's.
#pragma once

#include "wire/frame.hpp"

namespace fedctl::wire {

// The message in buffer[begin, end).
Message decode_owned(Bytes buffer, std::size_t begin);
// A whole frame.
Message decode_frame_owned(Bytes frame, Header& header);

}  // namespace fedctl::wire

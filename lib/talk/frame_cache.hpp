// FrameCache: encodes a message that goes to many peers once. Not thread-safe.
#pragma once

#include <memory>

#include "talk/ledger.hpp"
#include "wire/frame.hpp"

namespace fedctl::talk {

// A data frame ready for the wire, shared by all the peers it goes to.
struct Frame {
  Bytes bytes;
  Traffic parts;  // payload and framing
  ExchangeId exchange = 0;
};
using SharedFrame = std::shared_ptr<const Frame>;

inline SharedFrame make_frame(ExchangeId exchange, const Message& message) {
  auto frame = std::make_shared<Frame>();
  frame->bytes = wire::encode_frame(wire::FrameType::data, exchange, message);
  frame->parts.payload = wire::payload_bytes(message);
  frame->parts.framing = frame->bytes.size() - frame->parts.payload;
  frame->exchange = exchange;
  return frame;
}

// The same bytes, counted as repeated.
inline SharedFrame as_resent(const Frame& frame) {
  auto again = std::make_shared<Frame>(frame);
  again->parts = {};
  again->parts.resent = again->bytes.size();
  return again;
}

class FrameCache {
 public:
  // The frame of (message, exchange): the last one if it is asked for again, else a new one. The
  // cache keeps the message alive, so that its address cannot be taken by another.
  SharedFrame frame(const SharedMessage& message, ExchangeId exchange) {
    if (message != message_ || exchange != exchange_ || !frame_) {
      frame_ = make_frame(exchange, *message);
      message_ = message;
      exchange_ = exchange;
    }
    return frame_;
  }

 private:
  SharedMessage message_;
  ExchangeId exchange_ = 0;
  SharedFrame frame_;
};

}  // namespace fedctl::talk

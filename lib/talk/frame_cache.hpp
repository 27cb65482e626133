// FrameCache: encodes a message that goes to many peers once. Not thread-safe.
#pragma once

#include <algorithm>
#include <memory>

#include "talk/ledger.hpp"
#include "wire/chunk.hpp"

namespace fedctl::talk {

// A frame ready for the wire, shared by all the peers it goes to.
struct Frame {
  Bytes bytes;    // before it is cut into chunks
  Traffic parts;  // as it travels
  ExchangeId exchange = 0;
  std::size_t chunks = 1;                   // 1: it travels as it is
  wire::TransferId id{};                    // of more than one, if asked for, and
  std::vector<wire::ChunkHead> heads = {};  // what stands in front of each piece

  // Chunk `index` for the wire. Precondition: chunks > 1, with an id.
  Bytes chunk(std::size_t index) const {
    return wire::encode_chunk(bytes, exchange, id, index, framing());
  }
  ByteView piece(std::size_t index) const { return wire::piece_of(bytes, index); }
  // Precondition: chunks > 1.
  void name_chunks() {
    id = wire::transfer_id(bytes);
    for (std::size_t index = 0; index < chunks; ++index) {
      heads.push_back(wire::chunk_head(bytes, exchange, id, index, framing()));
    }
  }
  // As it travels.
  Traffic parts_of(std::size_t index) const {
    if (chunks == 1) return parts;
    const std::size_t before = index * limits::kChunkBytes;
    const std::size_t piece = std::min(limits::kChunkBytes, bytes.size() - before);
    Traffic traffic;
    traffic.payload = wire::payload_of_piece(index, piece, framing());
    traffic.framing = wire::chunk_overhead(chunks) / chunks + piece - traffic.payload;
    return traffic;
  }

 private:
  std::size_t framing() const { return bytes.size() - parts.payload; }  // of the whole frame
};
using SharedFrame = std::shared_ptr<const Frame>;

// `with_id`: it is going to a peer that may have a part of it.
inline SharedFrame make_frame(ExchangeId exchange, const Message& message, bool with_id = false) {
  auto frame = std::make_shared<Frame>();
  frame->bytes = wire::encode_frame(wire::FrameType::data, exchange, message);
  frame->chunks = wire::chunk_count(frame->bytes.size());
  frame->parts.payload = wire::payload_bytes(message);
  frame->parts.framing =
      frame->bytes.size() - frame->parts.payload + wire::chunk_overhead(frame->chunks);
  frame->exchange = exchange;
  if (with_id && frame->chunks > 1) frame->name_chunks();
  return frame;
}

class FrameCache {
 public:
  explicit FrameCache(bool with_ids = false) : with_ids_(with_ids) {}
  // The frame of (message, exchange): the last one if it is asked for again, else a new one.
  SharedFrame frame(const SharedMessage& message, ExchangeId exchange) {
    SharedFrame found = frame_.lock();
    if (!wire::same(message, message_) || exchange != exchange_ || !found) {
      found = make_frame(exchange, *message, with_ids_);
      message_ = message;
      exchange_ = exchange;
      frame_ = found;
      kept_ = found->chunks == 1 ? found : nullptr;
    }
    return found;
  }

 private:
  bool with_ids_;
  std::weak_ptr<const Message> message_;
  ExchangeId exchange_ = 0;
  // One in chunks may be as large as the model, and is there only until the last peer has it.
  std::weak_ptr<const Frame> frame_;
  SharedFrame kept_;
};

}  // namespace fedctl::talk

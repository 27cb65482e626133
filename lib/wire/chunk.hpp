// Chunks: a data frame of more than limits::kChunkBytes travels as several frames, so that after a
// break only what is missing is sent again (docs/protocol.md). The body of a chunk:
//
//   offset size  field
//        0   16  id: the first bytes of the whole frame's BLAKE2b-256
//       16    4  index
//       20    4  count
//       24    4  how many bytes of the whole frame are not payload
//       28       piece: limits::kChunkBytes of the whole frame, the last as many as are left
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "base/limits.hpp"
#include "base/scratch.hpp"
#include "wire/frame.hpp"

namespace fedctl::wire {

using TransferId = std::array<std::byte, 16>;
inline constexpr std::size_t kChunkHeadBytes = 28;

// 1: the frame travels as it is.
constexpr std::size_t chunk_count(std::size_t frame_bytes) {
  return (frame_bytes + limits::kChunkBytes - 1) / limits::kChunkBytes;
}
// What chunks add to a frame on the wire.
constexpr std::size_t chunk_overhead(std::size_t count) {
  return count > 1 ? count * (kHeaderBytes + kChunkHeadBytes) : 0;
}
// How many of a piece's bytes are payload: what is not comes first.
std::size_t payload_of_piece(std::size_t index, std::size_t piece_bytes, std::size_t framing);

TransferId transfer_id(ByteView frame);
// What stands in front of the piece: frame header and head.
using ChunkHead = std::array<std::byte, kHeaderBytes + kChunkHeadBytes>;
ByteView piece_of(ByteView frame, std::size_t index);
// Preconditions: chunk_count(frame.size()) > 1, index below it.
ChunkHead chunk_head(ByteView frame, std::uint64_t exchange, const TransferId& id,
                     std::size_t index, std::size_t framing);
// Head and piece.
Bytes encode_chunk(ByteView frame, std::uint64_t exchange, const TransferId& id, std::size_t index,
                   std::size_t framing);

// A whole data frame on disk.
struct StoredFrame {
  std::shared_ptr<Scratch::Region> region;
  std::size_t bytes = 0;
  std::uint64_t exchange = 0;
  // Of one that came in chunks, what they said.
  std::optional<TransferId> id = {};
  std::size_t framing = 0;

  // Throws WireError if it is no message, or not what its chunks said; RunDirectoryError.
  Message read() const;
};

// The receiving side of one transfer after the other. Survives the connection.
class Transfer {
 public:
  // With a scratch file its frames are kept there, else in memory.
  explicit Transfer(std::shared_ptr<Scratch> scratch = nullptr) : scratch_(std::move(scratch)) {}

  struct Piece {
    std::size_t payload = 0;                 // bytes
    std::optional<Message> message = {};     // with the last one: this,
    std::optional<StoredFrame> stored = {};  // or with a scratch file this
  };
  // Body of a chunk. Throws WireError if it is not the next of the transfer or the first of
  // another, if the whole would exceed bytes_max, or if the last one shows that the whole is not
  // what was announced. Memory grows with what arrives.
  Piece add(const Header& header, ByteView body, std::size_t bytes_max);
  // The same in parts: the head, its piece bit by bit, and when the checksum has been found right
  // the end. A chunk without an end was never there.
  void begin(const Header& header, std::span<const std::byte, kChunkHeadBytes> head,
             std::size_t bytes_max);
  void write(ByteView part);
  Piece end();

  const std::shared_ptr<Scratch>& scratch() const { return scratch_; }

  // What is there of the last transfer; chunks: 0 if there was none.
  const TransferId& id() const { return id_; }
  std::size_t chunks() const { return chunks_; }
  bool whole() const { return chunks_ == count_; }

 private:
  Message whole_message();

  std::shared_ptr<Scratch> scratch_;
  TransferId id_{};
  std::size_t chunks_ = 0, count_ = 0, framing_ = 0;
  std::uint64_t exchange_ = 0;
  std::size_t written_ = 0;  // bytes of the chunk that has begun
  Bytes frame_;              // or
  std::shared_ptr<Scratch::Region> region_;
};

}  // namespace fedctl::wire

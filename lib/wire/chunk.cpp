#include "wire/chunk.hpp"

#include <algorithm>

#include "base/digest.hpp"

namespace fedctl::wire {

std::size_t payload_of_piece(std::size_t index, std::size_t piece_bytes, std::size_t framing) {
  const std::size_t before = index * limits::kChunkBytes;
  return piece_bytes - std::min(piece_bytes, framing - std::min(framing, before));
}

TransferId transfer_id(ByteView frame) {
  const auto whole = Digest().add(frame).bytes();
  TransferId id{};
  std::copy_n(whole.begin(), id.size(), id.begin());
  return id;
}

Bytes encode_chunk(ByteView frame, std::uint64_t exchange, const TransferId& id, std::size_t index,
                   std::size_t framing) {
  const std::size_t at = index * limits::kChunkBytes;
  const ByteView piece = frame.subspan(at, std::min(limits::kChunkBytes, frame.size() - at));
  Bytes chunk;
  chunk.reserve(kHeaderBytes + kChunkHeadBytes + piece.size());
  chunk.resize(kHeaderBytes);
  ByteWriter writer(chunk);
  writer.raw(id);
  writer.number(static_cast<std::uint32_t>(index));
  writer.number(static_cast<std::uint32_t>(chunk_count(frame.size())));
  writer.number(static_cast<std::uint32_t>(framing));
  writer.raw(piece);
  put_header(FrameType::chunk, exchange, chunk);
  return chunk;
}

Transfer::Piece Transfer::add(const Header& header, ByteView body, std::size_t bytes_max) {
  ByteReader reader(body);
  TransferId id{};
  std::ranges::copy(reader.raw(id.size()), id.begin());
  const std::size_t index = reader.number<std::uint32_t>();
  const std::size_t count = reader.number<std::uint32_t>();
  const std::size_t framing = reader.number<std::uint32_t>();
  const ByteView piece = reader.raw(reader.left());
  if (count > chunk_count(bytes_max)) {
    throw TooLarge("chunk " + std::to_string(index) + " of " + std::to_string(count) +
                   ", at most " + std::to_string(bytes_max) + " bytes are accepted here");
  }
  if (count < 2 || index >= count) {
    throw WireError("chunk " + std::to_string(index) + " of " + std::to_string(count));
  }
  if (index == 0) {
    *this = Transfer();
    id_ = id;
    count_ = count;
    framing_ = framing;
    exchange_ = header.exchange;
  } else if (id != id_ || count != count_ || framing != framing_ || header.exchange != exchange_ ||
             index != chunks_) {
    throw WireError("chunk " + std::to_string(index) + " of " + std::to_string(count) +
                    " is not the next one");
  }
  const bool last = index + 1 == count;
  if (piece.empty() || piece.size() > limits::kChunkBytes ||
      (!last && piece.size() < limits::kChunkBytes)) {
    throw WireError("a chunk of " + std::to_string(piece.size()) + " bytes");
  }
  frame_.insert(frame_.end(), piece.begin(), piece.end());
  ++chunks_;
  Piece added{payload_of_piece(index, piece.size(), framing_), std::nullopt};
  if (!last) return added;
  const Bytes frame = std::exchange(frame_, {});
  chunks_ = 0;  // unless it is what it should be
  Header inner;
  if (transfer_id(frame) != id_) throw WireError("the digest of a frame in chunks is wrong");
  Message message = decode_frame(frame, inner);
  if (inner.type != FrameType::data || inner.exchange != exchange_ ||
      frame.size() != framing_ + payload_bytes(message)) {
    throw WireError("a frame in chunks is not what its chunks say");
  }
  chunks_ = count_;
  added.message = std::move(message);
  return added;
}

}  // namespace fedctl::wire

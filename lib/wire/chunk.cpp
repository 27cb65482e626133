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

ByteView piece_of(ByteView frame, std::size_t index) {
  const std::size_t at = index * limits::kChunkBytes;
  return frame.subspan(at, std::min(limits::kChunkBytes, frame.size() - at));
}

Bytes encode_chunk(ByteView frame, std::uint64_t exchange, const TransferId& id, std::size_t index,
                   std::size_t framing) {
  const ByteView piece = piece_of(frame, index);
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

ChunkHead chunk_head(ByteView frame, std::uint64_t exchange, const TransferId& id,
                     std::size_t index, std::size_t framing) {
  const Bytes chunk = encode_chunk(frame, exchange, id, index, framing);
  ChunkHead head;
  std::copy_n(chunk.begin(), head.size(), head.begin());
  return head;
}

Message StoredFrame::read() const {
  Bytes frame(bytes);
  region->read(0, frame);
  if (id && transfer_id(frame) != *id) throw WireError("the digest of a frame in chunks is wrong");
  Header inner;
  Message message = decode_frame(frame, inner);
  const bool as_said = inner.type == FrameType::data && inner.exchange == exchange;
  if (!as_said || (id && bytes != framing + payload_bytes(message))) {
    throw WireError("a frame in chunks is not what its chunks say");
  }
  return message;
}

void Transfer::begin(const Header& header, std::span<const std::byte, kChunkHeadBytes> head,
                     std::size_t bytes_max) {
  ByteReader reader(head);
  TransferId id{};
  std::ranges::copy(reader.raw(id.size()), id.begin());
  const std::size_t index = reader.number<std::uint32_t>();
  const std::size_t count = reader.number<std::uint32_t>();
  const std::size_t framing = reader.number<std::uint32_t>();
  if (count > chunk_count(bytes_max)) {
    throw TooLarge("chunk " + std::to_string(index) + " of " + std::to_string(count) +
                   ", at most " + std::to_string(bytes_max) + " bytes are accepted here");
  }
  if (count < 2 || index >= count) {
    throw WireError("chunk " + std::to_string(index) + " of " + std::to_string(count));
  }
  const bool next = id == id_ && count == count_ && framing == framing_ &&
                    header.exchange == exchange_ && index == chunks_;
  if (index != 0 && !next) {
    throw WireError("chunk " + std::to_string(index) + " of " + std::to_string(count) +
                    " is not the next one");
  }
  const std::size_t piece =
      header.body_bytes - std::min<std::size_t>(header.body_bytes, kChunkHeadBytes);
  if (piece == 0 || piece > limits::kChunkBytes ||
      (index + 1 < count && piece < limits::kChunkBytes)) {
    throw WireError("a chunk of " + std::to_string(piece) + " bytes");
  }
  if (index == 0) {
    *this = Transfer(scratch_);
    id_ = id;
    count_ = count;
    framing_ = framing;
    exchange_ = header.exchange;
    if (scratch_) region_ = scratch_->take(count * limits::kChunkBytes);
  }
  written_ = 0;
  if (!scratch_) frame_.resize(chunks_ * limits::kChunkBytes);
}

void Transfer::write(ByteView part) {
  if (region_) {
    region_->write(chunks_ * limits::kChunkBytes + written_, part);
  } else {
    frame_.insert(frame_.end(), part.begin(), part.end());
  }
  written_ += part.size();
}

Transfer::Piece Transfer::end() {
  Piece added{payload_of_piece(chunks_, written_, framing_)};
  const std::size_t bytes = chunks_ * limits::kChunkBytes + written_;
  if (++chunks_ < count_) return added;
  if (region_) {
    added.stored = StoredFrame{std::move(region_), bytes, exchange_, id_, framing_};
  } else {
    added.message = whole_message();
  }
  return added;
}

Message Transfer::whole_message() {
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
  return message;
}

Transfer::Piece Transfer::add(const Header& header, ByteView body, std::size_t bytes_max) {
  if (body.size() < kChunkHeadBytes) throw WireError("a chunk without its head");
  Header whole = header;
  whole.body_bytes = static_cast<std::uint32_t>(body.size());
  begin(whole, body.first<kChunkHeadBytes>(), bytes_max);
  write(body.subspan(kChunkHeadBytes));
  return end();
}

}  // namespace fedctl::wire

#include "wire/chunk.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "wire/owned.hpp"

namespace fedctl::wire {
namespace {

// Of a frame whose chunks, if it came in chunks, have said these things.
Message message_of(Bytes frame, std::uint64_t exchange, std::optional<std::size_t> framing) {
  const std::size_t bytes = frame.size();
  Header inner;
  Message message = decode_frame_owned(std::move(frame), inner);
  const bool as_said = inner.type == FrameType::data && inner.exchange == exchange;
  if (!as_said || (framing && bytes != *framing + payload_bytes(message))) {
    throw WireError("a frame in chunks is not what its chunks say");
  }
  return message;
}

}  // namespace

std::size_t payload_of_piece(std::size_t index, std::size_t piece_bytes, std::size_t framing) {
  const std::size_t before = index * limits::kChunkBytes;
  return piece_bytes - std::min(piece_bytes, framing - std::min(framing, before));
}

TransferId transfer_id(std::uint64_t frame_bytes, std::span<const std::uint32_t> checksums) {
  Bytes all;
  ByteWriter writer(all);
  writer.number(frame_bytes);
  for (const std::uint32_t checksum : checksums) writer.number(checksum);
  const auto digest = Digest().add(all).bytes();
  TransferId id{};
  std::copy_n(digest.begin(), id.size(), id.begin());
  return id;
}

TransferId transfer_id(ByteView frame) {
  std::vector<std::uint32_t> checksums;
  for (std::size_t index = 0; index < chunk_count(frame.size()); ++index) {
    checksums.push_back(crc32(0, piece_of(frame, index)));
  }
  return transfer_id(frame.size(), checksums);
}

ByteView piece_of(ByteView frame, std::size_t index) {
  const std::size_t at = index * limits::kChunkBytes;
  return frame.subspan(at, std::min(limits::kChunkBytes, frame.size() - at));
}

ChunkHead chunk_head(ByteView frame, std::uint64_t exchange, const TransferId& id,
                     std::size_t index, std::size_t framing) {
  Bytes inner;
  ByteWriter writer(inner);
  writer.raw(id);
  writer.number(static_cast<std::uint32_t>(index));
  writer.number(static_cast<std::uint32_t>(chunk_count(frame.size())));
  writer.number(static_cast<std::uint32_t>(framing));
  const Bytes header = make_header(FrameType::chunk, exchange, inner, piece_of(frame, index));
  ChunkHead head;
  std::ranges::copy(inner, std::ranges::copy(header, head.begin()).out);
  return head;
}

Bytes encode_chunk(ByteView frame, std::uint64_t exchange, const TransferId& id, std::size_t index,
                   std::size_t framing) {
  const ChunkHead head = chunk_head(frame, exchange, id, index, framing);
  const ByteView piece = piece_of(frame, index);
  Bytes chunk(head.begin(), head.end());
  chunk.insert(chunk.end(), piece.begin(), piece.end());
  return chunk;
}

Message StoredFrame::read() const {
  Bytes frame(bytes);
  region->read(0, frame);
  return message_of(std::move(frame), exchange, id ? std::optional(framing) : std::nullopt);
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
    *this = Transfer(scratch_);  // and its checksums
    id_ = id;
    count_ = count;
    framing_ = framing;
    exchange_ = header.exchange;
    if (scratch_) region_ = scratch_->take(count * limits::kChunkBytes);
  }
  written_ = 0;
  checksums_.resize(chunks_);
  checksums_.push_back(0);
  if (!scratch_) frame_.resize(chunks_ * limits::kChunkBytes);
}

void Transfer::write(ByteView part) {
  if (region_) {
    region_->write(chunks_ * limits::kChunkBytes + written_, part);
  } else {
    frame_.insert(frame_.end(), part.begin(), part.end());
  }
  written_ += part.size();
  checksums_.back() = crc32(checksums_.back(), part);
}

Transfer::Piece Transfer::end() {
  Piece added{payload_of_piece(chunks_, written_, framing_)};
  const std::size_t bytes = chunks_ * limits::kChunkBytes + written_;
  if (++chunks_ < count_) return added;
  chunks_ = 0;  // unless it is what it should be
  if (transfer_id(bytes, checksums_) != id_) {
    throw WireError("the digest of a frame in chunks is wrong");
  }
  if (region_) {
    chunks_ = count_;
    added.stored = StoredFrame{std::move(region_), bytes, exchange_, id_, framing_};
  } else {
    added.message = whole_message();
  }
  return added;
}

Message Transfer::whole_message() {
  Message message = message_of(std::exchange(frame_, {}), exchange_, framing_);
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

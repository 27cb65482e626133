#include "wire/frame.hpp"

#include <libdeflate.h>

#include "base/limits.hpp"
#include "wire/owned.hpp"

namespace fedctl::wire {
namespace {

constexpr std::size_t kCrcOffset = 16;
static_assert(kCrcOffset + sizeof(std::uint32_t) == kHeaderBytes);
static_assert(limits::kFrameBytesMax <= 0xffffffff);

// So that the memory of a large message is taken once.
std::size_t bytes_at_most(const Message& message) {
  constexpr std::size_t kEach = 32;  // type, lengths, a number
  std::size_t bytes = kEach + message.kind.size() + payload_bytes(message);
  for (const auto& [name, value] : message.scalars) {
    const auto* text = std::get_if<std::string>(&value);
    bytes += kEach + name.size() + (text == nullptr ? 0 : text->size());
  }
  for (const auto& [name, tensor] : message.tensors) {
    bytes += kEach + name.size() + 10 * tensor.shape.size();
  }
  return bytes;
}

void check_whole(const Header& header, std::span<const std::byte, kHeaderBytes> raw,
                 ByteView body) {
  check_body(header, raw, body);
  if (header.type == FrameType::chunk) throw WireError("a chunk where a whole frame is expected");
}

// Its first bytes, read into `header`.
std::span<const std::byte, kHeaderBytes> check_frame(ByteView frame, Header& header) {
  if (frame.size() < kHeaderBytes) throw WireError("frame is shorter than its header");
  const auto raw = frame.first<kHeaderBytes>();
  header = decode_header(raw, limits::kFrameBytesMax);
  return raw;
}

}  // namespace

std::uint32_t crc32(std::uint32_t crc, ByteView bytes) {
  return bytes.empty() ? crc : libdeflate_crc32(crc, bytes.data(), bytes.size());
}

Bytes make_header(FrameType type, std::uint64_t exchange, ByteView body, ByteView rest) {
  Bytes header;
  ByteWriter writer(header);
  writer.number('f');
  writer.number('c');
  writer.number(kVersion);
  writer.number(static_cast<std::uint8_t>(type));
  writer.number(static_cast<std::uint32_t>(body.size() + rest.size()));
  writer.number(exchange);
  writer.number(crc32(crc32(crc32(0, header), body), rest));
  return header;
}

void put_header(FrameType type, std::uint64_t exchange, std::span<std::byte> frame) {
  const Bytes header = make_header(type, exchange, frame.subspan(kHeaderBytes));
  std::copy(header.begin(), header.end(), frame.begin());
}

Bytes encode_frame(FrameType type, std::uint64_t exchange, const Message& message) {
  Bytes frame;
  frame.reserve(kHeaderBytes + bytes_at_most(message));
  frame.resize(kHeaderBytes);
  encode(message, frame);
  const std::size_t body_bytes = frame.size() - kHeaderBytes;
  if (body_bytes > limits::kFrameBytesMax) {
    throw WireError("message \"" + message.kind + "\" of " + std::to_string(body_bytes) +
                    " bytes, at most " + std::to_string(limits::kFrameBytesMax) + " fit a frame");
  }
  put_header(type, exchange, frame);
  return frame;
}

void require_size(const Header& header, std::size_t bytes_max) {
  if (header.body_bytes <= bytes_max) return;
  throw TooLarge("frame claims " + std::to_string(header.body_bytes) + " bytes, at most " +
                 std::to_string(bytes_max) + " are accepted here");
}

Header decode_header(std::span<const std::byte, kHeaderBytes> bytes, std::size_t bytes_max) {
  ByteReader reader(bytes);
  if (reader.number<char>() != 'f' || reader.number<char>() != 'c') {
    throw WireError("not a fedctl frame");
  }
  if (const auto version = reader.number<std::uint8_t>(); version != kVersion) {
    throw WireError("protocol version " + std::to_string(version) + ", this side speaks " +
                    std::to_string(kVersion));
  }
  Header header;
  const auto type = reader.number<std::uint8_t>();
  if (type > static_cast<std::uint8_t>(FrameType::chunk)) {
    throw WireError("unknown frame type " + std::to_string(type));
  }
  header.type = static_cast<FrameType>(type);
  header.body_bytes = reader.number<std::uint32_t>();
  require_size(header, bytes_max);
  header.exchange = reader.number<std::uint64_t>();
  header.crc = reader.number<std::uint32_t>();
  return header;
}

Checksum::Checksum(std::span<const std::byte, kHeaderBytes> raw)
    : crc_(crc32(0, raw.first(kCrcOffset))) {}

void Checksum::add(ByteView part) { crc_ = crc32(crc_, part); }

void Checksum::check(const Header& header) const {
  if (crc_ != header.crc) throw WireError("frame checksum is wrong");
}

void check_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw, ByteView body) {
  if (header.body_bytes != body.size())
    throw WireError("frame body has another length than claimed");
  if (crc32(crc32(0, raw.first(kCrcOffset)), body) != header.crc)
    throw WireError("frame checksum is wrong");
}

Message decode_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw,
                    ByteView body) {
  check_whole(header, raw, body);
  return decode(body);
}

Message decode_frame(ByteView frame, Header& header) {
  const auto raw = check_frame(frame, header);
  return decode_body(header, raw, frame.subspan(kHeaderBytes));
}

Message decode_frame_owned(Bytes frame, Header& header) {
  const auto raw = check_frame(frame, header);
  check_whole(header, raw, ByteView(frame).subspan(kHeaderBytes));
  return decode_owned(std::move(frame), kHeaderBytes);
}

}  // namespace fedctl::wire

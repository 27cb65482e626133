#include "wire/frame.hpp"

#include <zlib.h>

#include "base/limits.hpp"

namespace fedctl::wire {
namespace {

constexpr std::size_t kCrcOffset = 16;
static_assert(kCrcOffset + sizeof(std::uint32_t) == kHeaderBytes);
static_assert(limits::kFrameBytesMax <= 0xffffffff);

std::uint32_t add_to(std::uint32_t crc, ByteView bytes) {
  if (bytes.empty()) return crc;
  const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
  return static_cast<std::uint32_t>(crc32_z(crc, data, bytes.size()));
}

std::uint32_t checksum(ByteView header, ByteView body) {
  return add_to(add_to(0, header.first(kCrcOffset)), body);
}

}  // namespace

void put_header(FrameType type, std::uint64_t exchange, std::span<std::byte> frame) {
  Bytes header;
  ByteWriter writer(header);
  writer.number('f');
  writer.number('c');
  writer.number(kVersion);
  writer.number(static_cast<std::uint8_t>(type));
  writer.number(static_cast<std::uint32_t>(frame.size() - kHeaderBytes));
  writer.number(exchange);
  writer.number(checksum(header, frame.subspan(kHeaderBytes)));
  std::copy(header.begin(), header.end(), frame.begin());
}

Bytes encode_frame(FrameType type, std::uint64_t exchange, const Message& message) {
  Bytes frame;
  frame.reserve(kHeaderBytes + 256 + payload_bytes(message));
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
  if (header.body_bytes > bytes_max) {
    throw TooLarge("frame claims " + std::to_string(header.body_bytes) + " bytes, at most " +
                   std::to_string(bytes_max) + " are accepted here");
  }
  header.exchange = reader.number<std::uint64_t>();
  header.crc = reader.number<std::uint32_t>();
  return header;
}

Checksum::Checksum(std::span<const std::byte, kHeaderBytes> raw)
    : crc_(add_to(0, raw.first(kCrcOffset))) {}

void Checksum::add(ByteView part) { crc_ = add_to(crc_, part); }

void Checksum::check(const Header& header) const {
  if (crc_ != header.crc) throw WireError("frame checksum is wrong");
}

void check_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw, ByteView body) {
  if (header.body_bytes != body.size())
    throw WireError("frame body has another length than claimed");
  if (checksum(raw, body) != header.crc) throw WireError("frame checksum is wrong");
}

Message decode_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw,
                    ByteView body) {
  check_body(header, raw, body);
  if (header.type == FrameType::chunk) throw WireError("a chunk where a whole frame is expected");
  return decode(body);
}

Message decode_frame(ByteView frame, Header& header) {
  if (frame.size() < kHeaderBytes) throw WireError("frame is shorter than its header");
  const auto raw = frame.first<kHeaderBytes>();
  header = decode_header(raw, limits::kFrameBytesMax);
  return decode_body(header, raw, frame.subspan(kHeaderBytes));
}

}  // namespace fedctl::wire

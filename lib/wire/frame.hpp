// Frame: one message on a stream, with a header of 20 bytes in front (docs/protocol.md).
//
//   offset size  field
//        0    2  magic 'f' 'c'
//        2    1  version, kVersion
//        3    1  type: 0 data (a method's message), 1 control (handshake, heartbeat, end),
//                2 chunk (a piece of a large data frame: wire/chunk.hpp)
//        4    4  body bytes
//        8    8  exchange: which question a message asks or answers; 0 in control frames
//       16    4  CRC-32 (IEEE 802.3) of bytes 0-15 and the body
//
// A length in front, not a delimiter, so that a reader knows what to allocate (after checking it)
// and one gathered write sends a frame. The checksum is for broken software and memory, not for
// attackers.
#pragma once

#include <array>
#include <cstdint>

#include "wire/message.hpp"

namespace fedctl::wire {

// A frame, or the whole of its chunks, is longer than the reader accepts.
struct TooLarge : WireError {
  using WireError::WireError;
};

inline constexpr std::size_t kHeaderBytes = 20;
inline constexpr std::uint8_t kVersion = 1;

enum class FrameType : std::uint8_t { data = 0, control = 1, chunk = 2 };

struct Header {
  FrameType type = FrameType::data;
  std::uint32_t body_bytes = 0;
  std::uint64_t exchange = 0;
  std::uint32_t crc = 0;
};

// IEEE 802.3; goes on from the checksum of what came before, 0 at the beginning.
std::uint32_t crc32(std::uint32_t crc, ByteView bytes);
// The header of a frame whose body is the two one behind the other.
Bytes make_header(FrameType type, std::uint64_t exchange, ByteView body, ByteView rest = {});
// Fills in the header of a frame in one buffer. Precondition: at least kHeaderBytes long, and no
// body beyond limits::kFrameBytesMax.
void put_header(FrameType type, std::uint64_t exchange, std::span<std::byte> frame);
// Header and body in one buffer. Throws WireError if the body exceeds limits::kFrameBytesMax.
Bytes encode_frame(FrameType type, std::uint64_t exchange, const Message& message);

// Throws WireError on another magic (a stranger), another version (naming both), an unknown type,
// or (TooLarge) a body longer than bytes_max. Nothing is allocated.
Header decode_header(std::span<const std::byte, kHeaderBytes> bytes, std::size_t bytes_max);
// Throws TooLarge if its body is longer.
void require_size(const Header& header, std::size_t bytes_max);
// The checksum of a frame whose body comes in parts.
class Checksum {
 public:
  explicit Checksum(std::span<const std::byte, kHeaderBytes> raw);
  void add(ByteView part);
  // Throws WireError if it is not the header's. Precondition: the whole body has been added.
  void check(const Header& header) const;

 private:
  std::uint32_t crc_;
};
// Throws WireError if the checksum of a frame whose header was `raw`, or its length, is wrong.
void check_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw, ByteView body);
// Its message. Throws WireError if that or the checksum is wrong, or the frame is a chunk.
Message decode_body(const Header& header, std::span<const std::byte, kHeaderBytes> raw,
                    ByteView body);
// A whole frame from one buffer.
Message decode_frame(ByteView frame, Header& header);

}  // namespace fedctl::wire

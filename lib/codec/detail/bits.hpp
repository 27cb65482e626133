// Numbers of a few bits in a row of bytes: lowest bit first, within a byte and across bytes, as in
// DEFLATE. The last byte is filled up with zero bits, and readers insist on them, so that equal
// contents have equal bytes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/assert.hpp"
#include "base/bytes.hpp"

namespace fedctl::codec::detail {

class BitWriter {
 public:
  explicit BitWriter(Bytes& out) : out_(out) {}

  // The lowest `bits` bits of value, at most 56; the others must be 0.
  void number(std::uint64_t value, unsigned bits) {
    pending_ |= value << pending_bits_;
    pending_bits_ += bits;
    for (; pending_bits_ >= 8; pending_bits_ -= 8, pending_ >>= 8) {
      out_.push_back(static_cast<std::byte>(pending_));
    }
  }
  // `count` one bits and a zero bit.
  void unary(std::uint64_t count) {
    for (; count >= 32; count -= 32) number(0xffff'ffffU, 32);
    number((std::uint64_t{1} << count) - 1, static_cast<unsigned>(count) + 1);
  }
  // Fills the last byte up. To be called once, at the end.
  void finish() {
    if (pending_bits_ > 0) number(0, 8 - pending_bits_);
  }

 private:
  Bytes& out_;
  std::uint64_t pending_ = 0;  // bits not yet in out_, at most 7 between calls
  unsigned pending_bits_ = 0;
};

// Every call throws WireError when the bytes run out.
class BitReader {
 public:
  explicit BitReader(ByteView in) : in_(in) {}

  std::uint64_t number(unsigned bits) {
    while (pending_bits_ < bits) load();
    const std::uint64_t value = pending_ & ((std::uint64_t{1} << bits) - 1);
    drop(bits);
    return value;
  }
  // Throws WireError as soon as the count exceeds `count_max`.
  std::uint64_t unary(std::uint64_t count_max) {
    std::uint64_t count = 0;
    while (true) {
      if (pending_bits_ == 0) load();
      const auto ones = static_cast<unsigned>(std::countr_one(pending_));
      count += ones;
      if (count > count_max) throw WireError("a unary number is too large");
      if (ones < pending_bits_) {
        drop(ones + 1);
        return count;
      }
      drop(ones);
    }
  }
  // Throws WireError unless the rest of the last byte is zero bits. What follows that byte.
  ByteView finish() const {
    if (pending_ != 0) throw WireError("padding bits are set");
    return in_.subspan(at_);
  }

 private:
  void load() {
    if (at_ == in_.size()) throw WireError("encoded bits end early");
    pending_ |= std::to_integer<std::uint64_t>(in_[at_++]) << pending_bits_;
    pending_bits_ += 8;
  }
  void drop(unsigned bits) {
    pending_ >>= bits;
    pending_bits_ -= bits;
  }

  ByteView in_;
  std::size_t at_ = 0;
  std::uint64_t pending_ = 0;  // bits loaded and not yet read, at most 7 between calls
  unsigned pending_bits_ = 0;
};

// Bytes of `count` codes of `bits` bits each.
inline std::size_t packed_bytes(std::size_t count, unsigned bits) { return (count * bits + 7) / 8; }

// Appends codes of 1 to 8 bits, as BitWriter would, eight codes at a time.
inline void pack(std::span<const std::uint8_t> codes, unsigned bits, Bytes& out) {
  std::size_t at = out.size();
  out.resize(at + packed_bytes(codes.size(), bits));
  for (std::size_t first = 0; first < codes.size(); first += 8) {
    const auto group = codes.subspan(first, std::min<std::size_t>(8, codes.size() - first));
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < group.size(); ++i) word |= std::uint64_t{group[i]} << (bits * i);
    const std::size_t bytes = packed_bytes(group.size(), bits);
    std::memcpy(out.data() + at, &word, bytes);
    at += bytes;
  }
}

// Precondition: packed.size() == packed_bytes(codes.size(), bits). Throws WireError on padding
// bits.
inline void unpack(ByteView packed, unsigned bits, std::span<std::uint8_t> codes) {
  FEDCTL_ASSERT(packed.size() == packed_bytes(codes.size(), bits));
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  for (std::size_t first = 0, at = 0; first < codes.size(); first += 8, at += bits) {
    const auto group = codes.subspan(first, std::min<std::size_t>(8, codes.size() - first));
    std::uint64_t word = 0;
    std::memcpy(&word, packed.data() + at, packed_bytes(group.size(), bits));
    for (std::uint8_t& code : group) {
      code = static_cast<std::uint8_t>(word & mask);
      word >>= bits;
    }
    if (word != 0) throw WireError("padding bits are set");
  }
}

}  // namespace fedctl::codec::detail

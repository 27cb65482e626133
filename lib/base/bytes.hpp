// Bytes and little-endian reading and writing. Everything that comes from outside is read through
// ByteReader, which never reads past its end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/errors.hpp"

namespace fedctl {

static_assert(std::endian::native == std::endian::little, "tensors travel in host order");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

template <class T>
requires std::is_trivially_copyable_v<T> ByteView as_bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}

inline ByteView as_bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Appends fixed-width little-endian numbers and variable-length ones to a buffer it borrows.
class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}

  template <class T>
  requires std::is_arithmetic_v<T>
  void number(T value) { raw(std::as_bytes(std::span(&value, 1))); }
  // LEB128: seven bits a byte, lowest first, high bit set on all but the last.
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      number(static_cast<std::uint8_t>(value | 0x80));
      value >>= 7;
    }
    number(static_cast<std::uint8_t>(value));
  }
  void raw(ByteView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void text(std::string_view text) {
    varint(text.size());
    raw(as_bytes_of(text));
  }

 private:
  Bytes& out_;
};

// Reads what ByteWriter wrote. Every call throws WireError when the bytes run out; nothing is
// allocated before its size is known to be present.
class ByteReader {
 public:
  explicit ByteReader(ByteView in) : in_(in) {}

  std::size_t left() const { return in_.size() - at_; }
  bool done() const { return left() == 0; }

  template <class T>
  requires std::is_arithmetic_v<T> T number() {
    T value{};
    const ByteView bytes = raw(sizeof(T));
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  // Refuses a longer spelling than necessary, so equal values have equal bytes.
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = number<std::uint8_t>();
      if (shift == 63 && byte > 1) break;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        if (byte == 0 && shift != 0) throw WireError("number is not in its shortest form");
        return value;
      }
    }
    throw WireError("number has more than 64 bits");
  }
  ByteView raw(std::size_t count) {
    if (count > left()) {
      throw WireError("message ends early: " + std::to_string(count) + " bytes wanted, " +
                      std::to_string(left()) + " left");
    }
    const ByteView bytes = in_.subspan(at_, count);
    at_ += count;
    return bytes;
  }
  std::string text(std::size_t bytes_max) {
    const std::uint64_t size = varint();
    if (size > bytes_max) {
      throw WireError("text of " + std::to_string(size) + " bytes, at most " +
                      std::to_string(bytes_max) + " allowed");
    }
    const ByteView bytes = raw(static_cast<std::size_t>(size));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  ByteView in_;
  std::size_t at_ = 0;
};

}  // namespace fedctl

// Reading codes of varying length: a look at the next bits before it is known how many of them
// belong to the next code. Rows of bits as in bits.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/bytes.hpp"

namespace fedctl::codec::detail {

class BitWindow {
 public:
  static constexpr unsigned kBits = 57;  // that peek() is sure to show

  explicit BitWindow(ByteView in) : in_(in) {}

  // The next bits from the lowest on; at the end of the bytes zeros follow.
  std::uint64_t peek() const {
    const std::size_t byte = at_ / 8;
    std::uint64_t bits = 0;
    if (in_.size() - byte >= sizeof(bits)) {
      std::memcpy(&bits, in_.data() + byte, sizeof(bits));
    } else if (byte < in_.size()) {
      std::memcpy(&bits, in_.data() + byte, in_.size() - byte);
    }
    return bits >> (at_ % 8);
  }
  // Goes on by `bits` of the bits shown, at most kBits. Throws WireError beyond the end.
  void drop(unsigned bits) {
    at_ += bits;
    if (at_ > 8 * in_.size()) throw WireError("encoded bits end early");
  }
  // Throws WireError unless the rest of the last byte is zero bits. What follows that byte.
  ByteView finish() const {
    const std::size_t end = (at_ + 7) / 8;
    if (at_ % 8 != 0 && std::to_integer<unsigned>(in_[end - 1]) >> (at_ % 8) != 0) {
      throw WireError("padding bits are set");
    }
    return in_.subspan(end);
  }

 private:
  ByteView in_;
  std::size_t at_ = 0;  // in bits, never beyond the end
};

}  // namespace fedctl::codec::detail

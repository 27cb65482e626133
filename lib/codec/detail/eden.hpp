// EDEN's codec, which is DRIVE's with one bit.
#pragma once

#include <memory>

#include "codec/codec.hpp"

namespace fedctl::codec::detail {

struct EdenPlan {
  unsigned bits = 1;     // 1 to 4
  double keep = 1;       // share of the rotated values that are coded
  bool unbiased = true;  // or the smallest error
  unsigned rounds = 2;   // of the rotation
};

std::unique_ptr<Codec> make_eden(const EdenPlan& plan, std::size_t count,
                                 std::unique_ptr<SymbolCoder> coder);

}  // namespace fedctl::codec::detail

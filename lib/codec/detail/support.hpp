// A sparsifier whose support the values themselves decide; threshold and masked are it.
#pragma once

#include <memory>

#include "codec/codec.hpp"

namespace fedctl::codec::detail {

// Keeps every value that is not 0 and at least `relative` times the largest magnitude. `next` codes
// the kept values.
//
// Bytes: u32 k, the number of values that are kept; if k > 0 a byte, 0 for positions
// (detail/positions.hpp), 1 for a bitmap (bit i of the row for value i), whichever is shorter, of
// equals positions; they; and the k values by the next codec.
std::unique_ptr<Codec> make_support(std::size_t count, double relative, MakeNext next);

}  // namespace fedctl::codec::detail

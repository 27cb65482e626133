// The codec auto, with one step for all values or with one for every block.
#pragma once

#include <memory>

#include "codec/codec.hpp"
#include "codec/detail/levels.hpp"

namespace fedctl::codec::detail {

class StepCodec : public Codec {
 public:
  // encode() with a step that was found before; 0 for values that are all 0.
  virtual Bytes encode_at(std::span<const float> values, float step) const = 0;
};

std::unique_ptr<StepCodec> make_adaptive(std::size_t count, Target target);
std::unique_ptr<Codec> make_allocated(Blocks blocks, Target target);

}  // namespace fedctl::codec::detail

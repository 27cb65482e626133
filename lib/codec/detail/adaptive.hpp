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
  // The step at which the message, with `beside` bytes in front of it, meets the target; `message`
  // becomes that of encode_at().
  virtual float fit(std::span<const float> values, std::size_t beside, Bytes& message) const = 0;
};

std::unique_ptr<StepCodec> make_adaptive(std::size_t count, Target target);
std::unique_ptr<Codec> make_allocated(Blocks blocks, Target target);

}  // namespace fedctl::codec::detail

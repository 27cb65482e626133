// Codec: float values to bytes and back. A chain of them stands under codec.up or codec.down; a
// chain is a Codec too. The registry is codecs.def.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/layout.hpp"
#include "base/rng.hpp"
#include "config/fields.hpp"

namespace fedctl::codec {

// One instance per (peer, direction, tensor name): it may remember a residual.
class Codec {
 public:
  virtual ~Codec() = default;
  // Upper bound of encode().size() for this many values.
  virtual std::size_t max_encoded_bytes(std::size_t count) const = 0;
  // Same values, state and rng give the same bytes. Values that are not finite throw WireError.
  virtual Bytes encode(std::span<const float> values, Rng& rng) = 0;
  // Fills all of `out`; its size is the receiver's own knowledge, never the sender's claim. Throws
  // WireError on anything that encode() of this codec could not have written for out.size() values.
  virtual void decode(ByteView encoded, std::span<float> out) const = 0;
  // State that must survive between rounds (error feedback); empty if none. restore() throws
  // WireError on a state that state() of such an instance could not have returned.
  virtual std::vector<float> state() const { return {}; }
  virtual void restore(std::span<const float>) {}
};

// What the configuration check may rely on (docs/codecs.md).
struct Promises {
  bool linear = false;       // decoded values add
  bool unbiased = false;     // E[decode(encode(x))] = x
  bool contractive = false;  // |decode(encode(x)) - x|^2 <= (1 - delta) |x|^2
};

// Blocks of the vector that share a scale (the parameters of the model); never empty, in order,
// without gaps. A tensor that is not the model's vector is one block.
using Blocks = std::span<const std::size_t>;  // counts

// Makes the codec that stands behind a sparsifier, for the values it keeps.
using MakeNext = std::function<std::unique_ptr<Codec>(Blocks blocks)>;

struct CodecEntry {
  config::Kind kind;
  Promises promises;
  // The codec alone. encode() and decode() then expect exactly the sum of `blocks` values.
  std::function<std::unique_ptr<Codec>(const config::Options&, Blocks blocks)> make;
  // Only for a sparsifier: the codec in front of another, which codes the kept values as one block.
  std::function<std::unique_ptr<Codec>(const config::Options&, Blocks blocks, const MakeNext& next)>
      make_before = {};
};
const std::vector<CodecEntry>& codecs();
const config::Kinds& codec_kinds();

// A chain from the configuration. For the first three codecs a chain holds at most a sparsifier
// (topk) followed by a value codec (float16, quantize), which then codes the kept values; an empty
// chain is nullptr: values travel as float32. `error_feedback` is "none" or a name of
// codec/error_feedback.hpp. `key` is where the chain stands in the file. Throws ConfigError naming
// both keys for a chain that does not compose ("codec.up[0] and codec.up[1]: ...").
std::unique_ptr<Codec> make_chain(const std::vector<config::Plugin>& chain,
                                  const std::string& error_feedback, Blocks blocks,
                                  const std::string& key = "codec.up");

}  // namespace fedctl::codec

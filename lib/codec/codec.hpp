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

  // For codecs that code the difference to what the receiver has (codec/difference.hpp); nothing to
  // do for others. The receiver calls received() with the bytes and values of every decode() that
  // counts. Its stamp() then names what it has, 0 for nothing; the sender is told that stamp and
  // calls synchronise() with it before it encodes.
  virtual void received(ByteView, std::span<const float>) {}
  virtual std::uint32_t stamp() const { return 0; }
  virtual void synchronise(std::uint32_t) {}
  // For codecs that count on their messages being used: the last one, with these bytes, was not.
  // What was in it is sent later. Throws WireError on bytes that are not of this codec.
  virtual bool takes_back() const { return false; }
  virtual void take_back(ByteView) {}
  // What both sides know before the first message, in place of 0.
  virtual void start_from(std::span<const float>) {}
};

// What the configuration check may rely on (docs/codecs.md).
struct Promises {
  bool linear = false;       // decoded values add
  bool unbiased = false;     // E[decode(encode(x))] = x
  bool contractive = false;  // |decode(encode(x)) - x|^2 <= (1 - delta) |x|^2
};

// A block of the vector: a parameter of the model, whose values share a scale.
struct BlockSize {
  std::size_t count = 0;
  std::size_t columns = 0;  // of a matrix, by rows; 0: it is none

  BlockSize(std::size_t count_, std::size_t columns_ = 0) : count(count_), columns(columns_) {}
  operator std::size_t() const { return count; }
};
// Never empty, in order, without gaps. A tensor that is not the model's vector is one block.
using Blocks = std::span<const BlockSize>;

// What a codec is in a chain; a chain holds them in this order (docs/codecs.md).
enum class Stage {
  transform,   // values -> values, e.g. a rotation
  sparsifier,  // values -> positions and fewer values
  quantizer,   // values -> numbers of a small alphabet, or bytes
  coder,       // numbers of a small alphabet -> bytes
  squeezer,    // bytes -> fewer bytes
};

// Writes numbers below `alphabet` (2 to 256). A quantizer without one packs them in fixed width.
class SymbolCoder {
 public:
  virtual ~SymbolCoder() = default;
  virtual std::size_t max_encoded_bytes(std::size_t count, unsigned alphabet) const = 0;
  // Appends. Equal symbols have equal bytes.
  virtual void encode(std::span<const std::uint8_t> symbols, unsigned alphabet,
                      Bytes& out) const = 0;
  // Fills `symbols` and removes what it read from the front of `encoded`. Throws WireError on bytes
  // that encode() could not have written for symbols.size() numbers below `alphabet`.
  virtual void decode(ByteView& encoded, unsigned alphabet,
                      std::span<std::uint8_t> symbols) const = 0;
};

// Makes the rest of a chain, for the values that a transform or a sparsifier hands on. A codec may
// keep it: it refers to nothing but itself.
using MakeNext = std::function<std::unique_ptr<Codec>(Blocks blocks)>;

struct CodecEntry {
  config::Kind kind;
  Stage stage = Stage::quantizer;
  Promises promises = {};  // with the default options
  // If they depend on the options.
  std::function<Promises(const config::Options&)> promises_with = {};
  // The codec alone, or at the end of its chain. encode() and decode() then expect exactly the sum
  // of `blocks` values. Empty for a coder and a squeezer; the registry sets it for an entry with
  // make_before or make_coded.
  std::function<std::unique_ptr<Codec>(const config::Options&, Blocks blocks)> make = {};
  // Transform, sparsifier: in front of the rest of a chain.
  std::function<std::unique_ptr<Codec>(const config::Options&, Blocks blocks, const MakeNext& next)>
      make_before = {};
  // Quantizer whose numbers another may write; empty if it writes bytes of its own.
  std::function<std::unique_ptr<Codec>(const config::Options&, Blocks blocks,
                                       std::unique_ptr<SymbolCoder> coder)>
      make_coded = {};
  // Coder.
  std::function<std::unique_ptr<SymbolCoder>(const config::Options&)> make_coder = {};
  // Squeezer: around the chain before it.
  std::function<std::unique_ptr<Codec>(const config::Options&, std::unique_ptr<Codec> inner)>
      make_around = {};
};
const std::vector<CodecEntry>& codecs();
const config::Kinds& codec_kinds();
// What every codec of the chain promises.
Promises promises_of(const std::vector<config::Plugin>& chain);

// A chain from the configuration: at most one codec of each stage, in the order of Stage; a coder
// needs a quantizer before it. An empty chain is nullptr: values travel as float32.
// `error_feedback` is "none" or a name of codec/error_feedback.hpp. `key` is where the chain stands
// in the file. Throws ConfigError naming both keys for a chain that does not compose
// ("codec.up[0] and codec.up[1]: ...").
std::unique_ptr<Codec> make_chain(const std::vector<config::Plugin>& chain,
                                  const std::string& error_feedback, Blocks blocks,
                                  const std::string& key = "codec.up");

}  // namespace fedctl::codec

// CodecEndpoint: compression as a decorator. Every float32 tensor that is sent becomes a `coded`
// one, and every coded one that arrives becomes float32 again, so methods never name a codec.
// Values that must stay exact travel as scalars or float64.
//
// A broadcast through a chain without state is encoded once. With state (error feedback) there is
// one codec per (peer, tensor name), and with state at the receiver (codec/difference.hpp) one at
// either side: every message then carries the scalars "coded:<tensor name>", the stamps of what
// this side has decoded from that peer. They are taken out again before a method sees the message.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/layout.hpp"
#include "base/rng.hpp"
#include "codec/codec.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::talk {

class CodecEndpoint final : public Endpoint {
 public:
  // Makes a chain for a vector of these blocks; nullptr: values travel as float32.
  using Maker = std::function<std::unique_ptr<codec::Codec>(codec::Blocks)>;
  struct Options {
    Maker out, in;
    bool out_has_state = false;  // of the sender
    bool in_has_state = false;   // of the receiver
    bool neighbours = false;     // a client's: what comes from other clients was coded by `out`
    Layout layout;  // vectors of layout.size() floats have its blocks, others are one block
    Rng rng{0};     // of this side: streams by (tensor name, exchange)
  };
  CodecEndpoint(Endpoint& inner, Options options);

  std::vector<PeerId> peers() const override { return inner_.peers(); }
  std::size_t peer_count() const override { return inner_.peer_count(); }
  std::shared_ptr<Scratch> scratch() const override { return inner_.scratch(); }
  TimePoint now() const override { return inner_.now(); }
  void spend(Duration modelled) override { inner_.spend(modelled); }
  Task<void> send(PeerId to, ExchangeId exchange, SharedMessage message) override;
  // Precondition: no error feedback that codes differences.
  Task<void> send_seen(PeerId to, ExchangeId exchange, SharedMessage message, Seen seen) override;
  // A message that does not decode, or that holds a coded tensor larger than the layout, arrives as
  // Rejected.
  Task<std::optional<Envelope>> receive(TimePoint until) override;
  Traffic take_sent_between() override { return inner_.take_sent_between(); }

  // What codecs remember of each peer, at a point where nothing is under way: {f32 "in/NAME" and
  // "out/NAME", states; i64 of the same names, counts of values; i64 "known/NAME", stamps; i64
  // "sent" and coded "sent/NAME", the last message, if it may be taken back}. Peers without any are
  // left out.
  std::map<PeerId, Message> save() const;
  // Into a new instance with the same options. Throws WireError on what save() cannot have written.
  void load(PeerId peer, const Message& saved);

 private:
  using Key = std::pair<PeerId, std::string>;
  struct Stream {
    std::size_t count = 0;
    std::unique_ptr<codec::Codec> codec;
  };
  codec::Codec* stream(std::map<Key, Stream>& streams, const Maker& make, Key key,
                       std::size_t count);
  Message encoded(PeerId to, ExchangeId exchange, const Message& message);
  // Whether a tensor of it would become a coded one.
  bool has_codec(PeerId to, const Message& message);
  void decode(PeerId from, Message& message);
  void add_stamps(PeerId to, Message& message) const;
  void forget_stamps(PeerId from);
  // Takes the peer's stamps out of the message.
  void hear_stamps(PeerId from, Message& message);

  Endpoint& inner_;
  Options options_;
  std::map<Key, Stream> out_, in_;
  std::map<Key, std::uint32_t> known_;  // what the peer has decoded from this side, by its word
  std::weak_ptr<const Message> last_in_;
  SharedMessage last_out_;
  ExchangeId last_exchange_ = 0;
  void take_back(PeerId to, const Message& question);

  // The last message to each peer, of tensors whose codecs take back.
  struct Sent {
    ExchangeId exchange = 0;
    TensorMap tensors;
  };
  std::map<PeerId, Sent> sent_;
};

}  // namespace fedctl::talk

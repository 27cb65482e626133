#include "talk/codec_endpoint.hpp"

namespace fedctl::talk {
namespace {

// Stateless streams are shared by all peers.
constexpr PeerId kAnyPeer = -2;

}  // namespace

CodecEndpoint::CodecEndpoint(Endpoint& inner, Options options)
    : inner_(inner), options_(std::move(options)) {}

codec::Codec* CodecEndpoint::stream(std::map<Key, Stream>& streams, const Maker& make, Key key,
                                    std::size_t count) {
  const auto [at, fresh] = streams.try_emplace(std::move(key));
  Stream& stream = at->second;
  if (fresh || stream.count != count) {
    std::vector<std::size_t> blocks;
    if (count == options_.layout.size()) {
      for (const Block& block : options_.layout.blocks()) blocks.push_back(block.count);
    } else {
      blocks.push_back(count);
    }
    stream.count = count;
    stream.codec = make(blocks);
  }
  return stream.codec.get();
}

Message CodecEndpoint::encoded(PeerId to, ExchangeId exchange, const Message& message) {
  Message out(message.kind);
  out.scalars = message.scalars;
  const PeerId peer = options_.out_has_state ? to : kAnyPeer;
  for (const auto& [name, tensor] : message.tensors) {
    codec::Codec* codec = nullptr;
    if (tensor.dtype == DType::f32) {
      codec = stream(out_, options_.out, Key(peer, name), tensor.f32().size());
    }
    if (codec == nullptr) {
      out.tensors.emplace(name, tensor);
      continue;
    }
    Rng rng = options_.rng.stream(name, static_cast<std::int64_t>(exchange));
    out.tensors.emplace(name, Tensor{DType::coded, tensor.shape, codec->encode(tensor.f32(), rng)});
  }
  return out;
}

Task<void> CodecEndpoint::send(PeerId to, ExchangeId exchange, SharedMessage message) {
  const bool repeated =
      !options_.out_has_state && message == last_in_ && exchange == last_exchange_;
  if (!repeated) {
    SharedMessage out = wire::share(encoded(to, exchange, *message));
    if (to == kServer) {  // not a broadcast: nothing to keep
      co_await inner_.send(to, exchange, std::move(out));
      co_return;
    }
    last_out_ = std::move(out);
    last_in_ = std::move(message);
    last_exchange_ = exchange;
  }
  co_await inner_.send(to, exchange, last_out_);
}

void CodecEndpoint::decode(PeerId from, Message& message) {
  for (auto& [name, tensor] : message.tensors) {
    if (tensor.dtype != DType::coded && tensor.dtype != DType::f32) continue;
    const std::size_t count = element_count(tensor.shape);
    const std::size_t count_max = options_.layout.size();
    if (count > count_max) {
      throw WireError("tensor \"" + name + "\" claims " + std::to_string(count) +
                      " values, the model has " + std::to_string(count_max));
    }
    const codec::Codec* codec = stream(in_, options_.in, Key(kAnyPeer, name), count);
    if ((codec != nullptr) != (tensor.dtype == DType::coded)) {
      throw WireError("tensor \"" + name + "\" is " + dtype_name(tensor.dtype) +
                      ", the plan's codec chain says otherwise");
    }
    if (codec == nullptr) continue;
    Tensor values = Tensor::zeros(DType::f32, tensor.shape);
    try {
      codec->decode(tensor.bytes, values.f32());
    } catch (const WireError& error) {
      throw WireError("peer " + std::to_string(from) + ", \"" + message.kind + "\", tensor \"" +
                      name + "\": " + error.what());
    }
    tensor = std::move(values);
  }
}

Task<std::optional<Envelope>> CodecEndpoint::receive(TimePoint until) {
  std::optional<Envelope> envelope = co_await inner_.receive(until);
  if (envelope) {
    if (auto* message = std::get_if<Message>(&envelope->event)) {
      try {
        decode(envelope->from, *message);
      } catch (const WireError& error) {
        envelope->event = Rejected{error.what()};
      }
    }
  }
  co_return envelope;
}

}  // namespace fedctl::talk

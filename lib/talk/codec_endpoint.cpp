#include "talk/codec_endpoint.hpp"

#include <algorithm>
#include <limits>
#include <string_view>

namespace fedctl::talk {
namespace {

// Stateless streams are shared by all peers.
constexpr PeerId kAnyPeer = -2, kAnyNeighbour = -3;

// Names of tensors that may arrive, from one peer or, without state, from all: every one costs
// memory for as long as the run lasts, with state as much as the tensor.
constexpr std::ptrdiff_t kStatefulMax = 16;
constexpr std::ptrdiff_t kStatelessMax = 4096;

constexpr std::string_view kStampPrefix = "coded:";

// Of names in save().
const std::string kIn = "in/", kOut = "out/", kKnown = "known/", kSent = "sent", kSentOf = "sent/";

}  // namespace

CodecEndpoint::CodecEndpoint(Endpoint& inner, Options options)
    : inner_(inner), options_(std::move(options)) {}

std::shared_ptr<codec::Codec> CodecEndpoint::stream(std::map<Key, Stream>& streams,
                                                    const Maker& make, Key key, std::size_t count) {
  if (&streams == &in_ && !streams.contains(key)) {
    const auto of_peer = std::ranges::count_if(
        streams, [&](const auto& entry) { return entry.first.first == key.first; });
    const std::ptrdiff_t limit = options_.in_has_state ? kStatefulMax : kStatelessMax;
    if (of_peer == limit) {
      throw WireError("tensor \"" + key.second + "\" is one too many, at most " +
                      std::to_string(limit) + " names are coded");
    }
  }
  const auto [at, fresh] = streams.try_emplace(std::move(key));
  Stream& stream = at->second;
  if (fresh || stream.count != count) {
    std::vector<codec::BlockSize> blocks;
    if (count == options_.layout.size()) {
      for (const Block& block : options_.layout.blocks()) {
        const bool matrix = block.shape.size() > 1 && block.count > 0;
        blocks.emplace_back(block.count,
                            matrix ? block.count / static_cast<std::size_t>(block.shape[0]) : 0);
      }
    } else {
      blocks.push_back(count);
    }
    stream.count = count;
    stream.codec = make(blocks);
  }
  return stream.codec;
}

Message CodecEndpoint::encoded(PeerId to, ExchangeId exchange, const Message& message) {
  Message out(message.kind);
  out.scalars = message.scalars;
  const PeerId peer = options_.out_has_state ? to : kAnyPeer;
  for (const auto& [name, tensor] : message.tensors) {
    std::shared_ptr<codec::Codec> codec;
    if (tensor.dtype == DType::f32) {
      codec = stream(out_, options_.out, Key(peer, name), tensor.f32().size());
    }
    if (codec == nullptr) {
      out.tensors.emplace(name, tensor);
      continue;
    }
    if (const auto known = known_.find(Key(to, name)); known != known_.end()) {
      codec->synchronise(known->second);
    } else {
      codec->synchronise(0);
    }
    Rng rng = options_.rng.stream(name, static_cast<std::int64_t>(exchange));
    const auto at = out.tensors.emplace(
        name, Tensor{DType::coded, tensor.shape, codec->encode(tensor.f32(), rng)});
    if (codec->takes_back()) {
      Sent& sent = sent_[to];
      if (std::exchange(sent.exchange, exchange) != exchange) sent.tensors.clear();
      sent.tensors.insert_or_assign(name, at.first->second);
    }
  }
  return out;
}

bool CodecEndpoint::has_codec(PeerId to, const Message& message) {
  const PeerId peer = options_.out_has_state ? to : kAnyPeer;
  return std::ranges::any_of(message.tensors, [&](const auto& entry) {
    const auto& [name, tensor] = entry;
    return tensor.dtype == DType::f32 &&
           stream(out_, options_.out, Key(peer, name), tensor.f32().size()) != nullptr;
  });
}

void CodecEndpoint::add_stamps(PeerId to, Message& message) const {
  for (auto at = in_.lower_bound(Key(to, "")); at != in_.end() && at->first.first == to; ++at) {
    const codec::Codec* codec = at->second.codec.get();
    if (codec == nullptr || codec->stamp() == 0) continue;
    message.scalars.emplace(std::string(kStampPrefix) + at->first.second,
                            static_cast<std::int64_t>(codec->stamp()));
  }
}

void CodecEndpoint::forget_stamps(PeerId from) {
  for (auto at = known_.lower_bound(Key(from, ""));
       at != known_.end() && at->first.first == from;) {
    at = known_.erase(at);
  }
}

void CodecEndpoint::hear_stamps(PeerId from, Message& message) {
  forget_stamps(from);
  for (auto at = message.scalars.lower_bound(std::string(kStampPrefix));
       at != message.scalars.end() && at->first.starts_with(kStampPrefix);) {
    const auto* stamp = std::get_if<std::int64_t>(&at->second);
    if (stamp == nullptr || *stamp < 0 || *stamp > std::numeric_limits<std::uint32_t>::max()) {
      throw WireError("scalar \"" + at->first + "\" is no stamp");
    }
    known_[Key(from, at->first.substr(kStampPrefix.size()))] = static_cast<std::uint32_t>(*stamp);
    at = message.scalars.erase(at);
  }
}

Task<void> CodecEndpoint::send_seen(PeerId to, ExchangeId exchange, SharedMessage message,
                                    Seen seen) {
  Message coded = encoded(to, exchange, *message);
  const PeerId peer = options_.out_has_state ? to : kAnyPeer;
  Message as_read = *message;
  for (auto& [name, tensor] : as_read.tensors) {
    const Tensor& sent = coded.tensors.at(name);
    if (sent.dtype == DType::coded) {
      out_.at(Key(peer, name)).codec->decode(sent.bytes, tensor.f32());
    }
  }
  seen(as_read);
  if (options_.in_has_state) add_stamps(to, coded);
  co_await inner_.send(to, exchange, wire::share(std::move(coded)));
}

Task<void> CodecEndpoint::send(PeerId to, ExchangeId exchange, SharedMessage message) {
  if (!has_codec(to, *message) && !options_.in_has_state) {
    co_await inner_.send(to, exchange, std::move(message));
    co_return;
  }
  const bool repeated =
      !options_.out_has_state && wire::same(message, last_in_) && exchange == last_exchange_;
  SharedMessage out = repeated ? last_out_ : wire::share(encoded(to, exchange, *message));
  if (!repeated && to != kServer) {  // to the server there are no broadcasts
    last_out_ = out;
    last_in_ = message;
    last_exchange_ = exchange;
  }
  if (options_.in_has_state) {
    Message stamped = *out;
    add_stamps(to, stamped);
    out = wire::share(std::move(stamped));
  }
  co_await inner_.send(to, exchange, std::move(out));
}

void CodecEndpoint::take_back(PeerId to, const Message& question) {
  const auto unused = question.scalars.find(kUnused);
  const auto sent = sent_.find(to);
  if (unused == question.scalars.end() || sent == sent_.end()) return;
  const auto* exchange = std::get_if<std::int64_t>(&unused->second);
  if (exchange == nullptr || static_cast<ExchangeId>(*exchange) != sent->second.exchange) return;
  for (const auto& [name, tensor] : sent->second.tensors) {
    out_.at(Key(to, name)).codec->take_back(tensor.bytes);
  }
  sent_.erase(sent);
}

void CodecEndpoint::decode(PeerId from, Message& message) {
  take_back(from, message);
  hear_stamps(from, message);
  const bool neighbour = options_.neighbours && from != kServer;
  const PeerId peer = neighbour ? kAnyNeighbour : options_.in_has_state ? from : kAnyPeer;
  for (auto& [name, tensor] : message.tensors) {
    if (tensor.dtype != DType::coded && tensor.dtype != DType::f32) continue;
    const std::size_t count = element_count(tensor.shape);
    const std::size_t count_max = options_.layout.size();
    if (count > count_max) {
      throw WireError("tensor \"" + name + "\" claims " + std::to_string(count) +
                      " values, the model has " + std::to_string(count_max));
    }
    std::shared_ptr<codec::Codec> codec;
    {
      const std::scoped_lock lock(mutex_);
      codec = stream(in_, neighbour ? options_.out : options_.in, Key(peer, name), count);
    }
    if ((codec != nullptr) != (tensor.dtype == DType::coded)) {
      throw WireError("tensor \"" + name + "\" is " + dtype_name(tensor.dtype) +
                      ", the plan's codec chain says otherwise");
    }
    if (codec == nullptr) continue;
    Tensor values = Tensor::zeros(DType::f32, tensor.shape);
    try {
      codec->decode(tensor.bytes, values.f32());
      codec->received(tensor.bytes, values.f32());
    } catch (const WireError& error) {
      throw WireError("peer " + std::to_string(from) + ", \"" + message.kind + "\", tensor \"" +
                      name + "\": " + error.what());
    }
    tensor = std::move(values);
  }
}

Task<std::optional<Envelope>> CodecEndpoint::receive(TimePoint until) {
  std::optional<Envelope> envelope = co_await inner_.receive(until);
  if (envelope && !envelope->unpacked) unpack(*envelope);
  co_return envelope;
}

void CodecEndpoint::unpack(Envelope& envelope) {
  if (auto* message = std::get_if<Message>(&envelope.event)) {
    const auto reason = refusal_of([&] { decode(envelope.from, *message); });
    if (reason) envelope.event = Rejected{*reason};
    envelope.unpacked = true;
  } else if (std::holds_alternative<Joined>(envelope.event)) {
    forget_stamps(envelope.from);  // it may be another process, which has nothing
  }
}

std::map<PeerId, Message> CodecEndpoint::save() const {
  std::map<PeerId, Message> all;
  const auto of = [&all](PeerId peer) -> Message& {
    return all.try_emplace(peer, Message("memory")).first->second;
  };
  for (const auto& [side, streams] : {std::pair(kIn, &in_), std::pair(kOut, &out_)}) {
    for (const auto& [key, stream] : *streams) {
      if (!stream.codec) continue;
      const std::vector<float> state = stream.codec->state();
      if (state.empty()) continue;
      const std::string name = side + key.second;
      of(key.first).tensors.emplace(name, Tensor::of(std::span<const float>(state), {}));
      of(key.first).scalars.emplace(name, static_cast<std::int64_t>(stream.count));
    }
  }
  for (const auto& [peer, sent] : sent_) {
    of(peer).scalars.emplace(kSent, static_cast<std::int64_t>(sent.exchange));
    for (const auto& [name, tensor] : sent.tensors)
      of(peer).tensors.emplace(kSentOf + name, tensor);
  }
  for (const auto& [key, stamp] : known_) {
    of(key.first).scalars.emplace(kKnown + key.second, static_cast<std::int64_t>(stamp));
  }
  return all;
}

void CodecEndpoint::load(PeerId peer, const Message& saved) {
  const wire::Expect fields(saved, "memory");
  for (const auto& [name, value] : saved.scalars) {
    if (name == kSent) continue;  // below, when the codecs are there
    if (name.starts_with(kKnown)) {
      known_[Key(peer, name.substr(kKnown.size()))] = static_cast<std::uint32_t>(
          fields.integer(name, 0, std::numeric_limits<std::uint32_t>::max()));
      continue;
    }
    const bool in = name.starts_with(kIn);
    if (!in && !name.starts_with(kOut)) throw WireError("memory of \"" + name + "\"");
    const auto count = static_cast<std::size_t>(
        fields.integer(name, 0, static_cast<std::int64_t>(options_.layout.size())));
    const Key key(peer, name.substr(in ? kIn.size() : kOut.size()));
    const std::shared_ptr<codec::Codec> codec =
        stream(in ? in_ : out_, in ? options_.in : options_.out, key, count);
    const auto tensor = saved.tensors.find(name);
    if (codec == nullptr || tensor == saved.tensors.end() || tensor->second.dtype != DType::f32) {
      throw WireError("memory of \"" + name + "\" that no codec has");
    }
    codec->restore(tensor->second.f32());
  }
  if (!saved.scalars.contains(kSent)) return;
  Sent& sent = sent_[peer];
  sent.exchange = static_cast<ExchangeId>(fields.integer(kSent, 1, INT64_MAX));
  for (const auto& [name, tensor] : saved.tensors) {
    if (!name.starts_with(kSentOf)) continue;
    const std::string of = name.substr(kSentOf.size());
    if (tensor.dtype != DType::coded || !out_.contains(Key(peer, of))) {
      throw WireError("memory of \"" + name + "\" that no codec has");
    }
    sent.tensors.emplace(of, tensor);
  }
}

}  // namespace fedctl::talk

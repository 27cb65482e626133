// Endpoint: the whole network as a method sees it. Behind it stand the in-process mesh, TCP, and
// decorators that compress, count or fail; a method cannot tell them apart.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.hpp"
#include "talk/replies.hpp"
#include "talk/task.hpp"
#include "wire/message.hpp"

namespace fedctl::talk {

using wire::Message;
using wire::SharedMessage;

// Clients are numbered from 0 by their --id; the server is kServer.
using PeerId = std::int64_t;
inline constexpr PeerId kServer = -1;

// Which question a message asks or answers. The asking side numbers them; an answer repeats the
// number.
using ExchangeId = std::uint64_t;

// What arrives: a message, or news of a peer.
struct Joined {
  std::int64_t session = 0;  // the number the client drew for itself; 0: none
};
struct Lost {
  std::string reason;
  bool for_good = false;  // it has said that it will not come back
};
struct Rejected {  // a message that could not be decoded; the peer stays
  std::string reason;
};
struct Again {};   // the question of this exchange, which has been received, is asked once more
struct Closed {};  // the run is over: nothing will arrive any more
struct Envelope {
  PeerId from = kServer;
  ExchangeId exchange = 0;
  std::variant<Message, Joined, Lost, Rejected, Again, Closed> event = Closed{};
  bool unpacked = false;  // a CodecEndpoint has decoded the message already
};

// docs/journal.md defines the parts; they add up to what the sockets saw.
struct Traffic {
  std::uint64_t payload = 0;  // tensor data in method messages
  std::uint64_t framing = 0;  // the rest of these frames
  std::uint64_t tls = 0;      // record overhead
  std::uint64_t resent = 0;   // repeated
  std::uint64_t control = 0;  // handshake, heartbeat, end, and frames that broke off

  std::uint64_t sum() const { return payload + framing + tls + resent + control; }
  Traffic& operator+=(const Traffic& other);
  bool operator==(const Traffic&) const = default;
};

class Endpoint {
 public:
  virtual ~Endpoint() = default;
  // Sorted; as of the Joined and Lost received so far. A client sees kServer and its neighbours.
  virtual std::vector<PeerId> peers() const = 0;
  virtual std::size_t peer_count() const { return peers().size(); }
  // Where answers may lie that memory is too small for; null: anywhere.
  virtual std::shared_ptr<Scratch> scratch() const { return nullptr; }
  virtual TimePoint now() const = 0;
  // Declares that this side spent modelled time computing; moves the virtual clock, nothing
  // elsewhere.
  virtual void spend(Duration modelled) = 0;
  // Hands the message over; does not wait for delivery. To a peer that is gone: no effect, its Lost
  // arrives or has arrived.
  virtual Task<void> send(PeerId to, ExchangeId exchange, SharedMessage message) = 0;
  // The same for a side that goes on from the very values the other one has: `seen` is called
  // first, with the message as it will be read, its float32 tensors as decoded.
  using Seen = std::function<void(const Message& as_read)>;
  virtual Task<void> send_seen(PeerId to, ExchangeId exchange, SharedMessage message, Seen seen) {
    seen(*message);
    return send(to, exchange, std::move(message));
  }
  // What a client has sent to neighbours since the last call.
  virtual Traffic take_sent_between() { return {}; }
  // The next envelope; nullopt when `until` has passed first. After Closed, always Closed.
  virtual Task<std::optional<Envelope>> receive(TimePoint until) = 0;
};

// A scalar that the asking side may add to a question: the exchange whose answer by this peer it
// did not use. Error feedback then sends later what was in that answer.
inline constexpr const char* kUnused = "unused";

using Requests = std::map<PeerId, SharedMessage>;
// For the answers of a round: a server's memory is that of the model, a simulation holds its
// clients.
inline Replies room_for_replies(const Endpoint& net) {
  std::shared_ptr<Scratch> scratch = net.scratch();
  const std::size_t bytes_max = scratch ? limits::kRepliesBytesMax : limits::kUnpackedBytesMax;
  return Replies(std::move(scratch), bytes_max);
}
// Called with every answer as it comes; throws an Error, whose text is why it is rejected.
using Inspect = std::function<void(PeerId from, const Message& answer)>;

// Reads what a peer has sent; why it cannot be used, if that throws. Whatever the kind of the
// error, it is the peer's fault, not the end of the run: that is only this side's own disk
// (RunDirectoryError).
std::optional<std::string> refusal_of(const std::function<void()>& read);

// What came of a question. Every asked peer is in exactly one of replies, rejected, lost and
// silent.
struct Answers {
  Replies replies;
  std::map<PeerId, std::string> rejected;  // its answer cannot be used: why
  std::map<PeerId, std::string> lost;      // why
  std::vector<PeerId> silent;              // the deadline passed
  std::map<PeerId, TimePoint> arrived;     // when, of each reply and each rejected one
  struct Late {
    PeerId from;
    ExchangeId exchange;
    TimePoint at;
  };
  std::vector<Late> late;  // answers to older questions that arrived meanwhile; what they said is
                           // nobody's affair
};

// Sends every request and collects answers until each peer has answered or is lost, or `until`
// passes. A peer that joins while its answer is open is asked again. Tracks the set of open peers:
// a second answer, an answer from a peer not asked, or one to an older exchange counts as late.
// Throws ProtocolError if the run closes meanwhile.
Task<Answers> ask(Endpoint& net, ExchangeId exchange, const Requests& requests, TimePoint until,
                  Inspect inspect = {});

// Goes on waiting for those that were silent. Preconditions: `answers` is what ask() came to for
// the same exchange and requests.
Task<void> wait_longer(Endpoint& net, ExchangeId exchange, const Requests& requests,
                       TimePoint until, Answers& answers, Inspect inspect = {});

// Everything that has arrived by now: news that changes peers(), late answers without their
// tensors.
Task<std::vector<Envelope>> drain(Endpoint& net);

// Answers the sender of `request` in its exchange.
Task<void> reply(Endpoint& net, const Envelope& request, Message answer);

}  // namespace fedctl::talk

// Ledger: every byte that crossed the wire, in five parts, two directions, per client. The
// transports fill it; the journal's `round` line empties it. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "talk/endpoint.hpp"

namespace fedctl::talk {

enum class Direction { up, down };  // client to server, server to client

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

struct Crossing {
  Traffic up, down;
};

class Ledger {
 public:
  void add(PeerId peer, Direction direction, const Traffic& traffic);
  // What came since the last call, by peer; sorted.
  std::map<PeerId, Crossing> take();

 private:
  std::mutex mutex_;
  std::map<PeerId, Crossing> open_;
};

Crossing total(const std::map<PeerId, Crossing>& by_peer);

}  // namespace fedctl::talk

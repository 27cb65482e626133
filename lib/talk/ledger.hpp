// Ledger: every byte that crossed the wire, in five parts, two directions, per client. The
// transports fill it; the journal's `round` line empties it. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "talk/endpoint.hpp"

namespace fedctl::talk {

enum class Direction { up, down };  // client to server, server to client

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

// Inbox: receive by peer and kind, for conversations with more than one talker. A fast neighbour
// speaks before it is asked; what is not wanted yet waits here, in order of arrival.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "talk/endpoint.hpp"

namespace fedctl::talk {

class Inbox {
 public:
  // Holds at most depth_max envelopes; one more throws ProtocolError naming the peer.
  Inbox(Endpoint& net, std::size_t depth_max) : net_(net), depth_max_(depth_max) {}

  // The first envelope from `from` that is a message of this kind, or the news that the peer is
  // Lost or the run Closed; nullopt when `until` has passed first.
  Task<std::optional<Envelope>> take(PeerId from, std::string kind, TimePoint until);
  std::size_t waiting() const { return waiting_.size(); }

 private:
  Endpoint& net_;
  std::size_t depth_max_;
  std::deque<Envelope> waiting_;
};

}  // namespace fedctl::talk

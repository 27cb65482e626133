// Between which clients the server makes links, and passes on what has none.
#include <algorithm>
#include <random>

#include "base/limits.hpp"
#include "net/detail/relay.hpp"
#include "net/detail/session.hpp"

namespace fedctl::net {
namespace {

using talk::Message;
using talk::PeerId;

// By which two neighbours know each other.
std::string random_ticket() {
  std::random_device device;
  std::string ticket;
  for (int i = 0; i < 4; ++i) ticket += std::to_string(device()) + '.';
  return ticket;
}

}  // namespace

void TcpServer::introduce(const Session& session, bool present) {
  const auto tell = [present](const Session& whom, const Session& of, const std::string& ticket) {
    Message news = Message("neighbour").with("client", of.peer).with("present", present);
    if (present && of.listens > 0) {
      news.scalars["address"] = of.address();
      news.scalars["port"] = of.listens;
      news.scalars["ticket"] = ticket;
    }
    // That it has gone and is back are two.
    whom.connection->queue_control(news, slots::news_of(of.peer), 2);
  };
  for (const PeerId other : session.neighbours) {
    const auto found = sessions_.find(other);
    if (found == sessions_.end()) continue;
    const std::string ticket = random_ticket();
    tell(*found->second, session, ticket);
    if (present) tell(session, *found->second, ticket);
  }
}

// Whom it does not reach has left, and the sender will hear of that.
void TcpServer::pass_on(const Session& from, const Message& relay) {
  const talk::PeerId to = wire::Expect(relay, "relay").integer("client", 0, options_.clients - 1);
  const Bytes& frame = frame_in(relay);
  if (!std::ranges::binary_search(from.neighbours, to)) {
    throw ProtocolError("writes to client " + std::to_string(to) + ", which is no neighbour");
  }
  const auto found = sessions_.find(to);
  if (found == sessions_.end()) return;
  // Of one who is behind, only the last are of use.
  found->second->connection->queue_control(relay_of(from.peer, frame), slots::relay_by(from.peer),
                                           limits::kRelaysQueuedMax);
}

}  // namespace fedctl::net

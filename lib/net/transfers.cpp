// What the server keeps of questions and answers over the connections of a client.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "net/detail/session.hpp"

namespace fedctl::net {

using talk::Message;
using talk::PeerId;

void TcpServer::count(PeerId peer, Way way, talk::Traffic traffic, Crossed crossed) {
  if (way == Way::out && crossed.exchange != 0) {
    Crossed& before = asked_[peer];
    if (before.exchange == crossed.exchange && crossed.chunks <= before.chunks) {
      traffic.resent = std::exchange(traffic.payload, 0) + std::exchange(traffic.framing, 0);
    } else {
      before = crossed;
    }
  }
  ledger_.add(peer, way == Way::in ? talk::Direction::up : talk::Direction::down, traffic);
}

void TcpServer::ask(Session& session, const talk::SharedFrame& frame) {
  patience_[session.peer].messages.add(limits::kAnswersPerQuestion);
  // Once: of this transfer, or of one that is over.
  const std::size_t have = std::exchange(session.have, {}).of(frame->id, frame->chunks);
  // What an earlier process of the server has sent counts as if this one had.
  const Crossed& before = asked_[session.peer];
  for (std::size_t i = before.exchange == frame->exchange ? before.chunks : 0; i < have; ++i) {
    count(session.peer, Way::out, frame->parts_of(i), {frame->exchange, i + 1});
  }
  if (have == frame->chunks) {
    session.connection->queue_control(
        Message("again").with("exchange", static_cast<std::int64_t>(frame->exchange)),
        slots::kQuestion);
  } else {
    // One that it has not begun to get is answered too late anyway.
    session.connection->queue(frame, have, slots::kQuestion);
  }
}

// What has come of an answer is kept as long as its client may come back to go on with it.
talk::Task<void> TcpServer::forget_answer(PeerId peer) {
  boost::asio::steady_timer grace(io_, seconds(options_.idle_s));
  co_await grace.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  if (!sessions_.contains(peer)) answers_.erase(peer);
}

}  // namespace fedctl::net

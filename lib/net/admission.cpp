// Who may stay connected to the server, and what strangers may cost it (docs/security.md).
#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/limits.hpp"
#include "net/detail/session.hpp"

namespace fedctl::net {

namespace asio = boost::asio;
using detail::TryAgain;

// One who has not said who it is may be put out by another, its own address's first: a client says
// hello at once.
bool TcpServer::make_room(const Session& newcomer) {
  const std::string address = newcomer.address();
  const auto neighbour = [&](const auto& other) { return other->address() == address; };
  auto victim = strangers_.end();
  if (std::ranges::count_if(strangers_, neighbour) >= limits::kStrangersPerAddressMax) {
    victim = std::ranges::find_if(strangers_, neighbour);
  } else if (strangers_.size() >= limits::kStrangersMax ||
             connections() >= options_.connections_max) {
    victim = strangers_.begin();
  }
  if (victim == strangers_.end()) return connections() < options_.connections_max;
  const std::shared_ptr<Session> out = *victim;
  strangers_.erase(victim);
  out->connection->close("too many connections, and no hello on this one");
  return true;
}

std::size_t TcpServer::connections() const {
  return strangers_.size() + preparing_.size() + sessions_.size() + sent_away_;
}

void TcpServer::require_turn(talk::PeerId peer) {
  const std::string name = "client " + std::to_string(peer);
  if (sessions_.contains(peer)) throw TryAgain(name + " is already connected");
  if (preparing_.contains(peer)) throw TryAgain(name + " is joining already");
  // Some are left for those who have not said hello yet, or nobody could come back.
  const std::size_t inside = preparing_.size() + sessions_.size();
  if (inside + limits::kStrangersMin >= options_.connections_max) {
    throw TryAgain("the server has no descriptor for one more client");
  }
  if (!patience_[peer].joins.take()) throw TryAgain(name + " comes and goes too often");
}

talk::Task<void> TcpServer::send_away(std::shared_ptr<Session> session, std::string reason,
                                      bool put_out) {
  preparing_.erase(session->peer);
  ++sent_away_;
  if (!reason.empty() && !put_out) refuse(*session, reason);
  session->connection->deadline(std::chrono::steady_clock::now() + detail::kGoodbye, "refused");
  co_await session->connection->flush();
  session->connection->close(reason);
  --sent_away_;
}

void TcpServer::refresh_credentials() {
  if (!options_.tls) return;
  try {
    if (!options_.tls->refresh()) return;
    options_.notice("certificates and revocations have been read again");
  } catch (const Error& error) {
    options_.notice(std::string("the old certificates stay in force: ") + error.what());
    return;
  }
  for (const auto& [peer, session] : sessions_) {
    try {
      options_.tls->context()->check_peer(*session->connection->tls());
    } catch (const TlsError& error) {
      session->connection->close(error.what());
    }
  }
}

talk::Task<void> TcpServer::watch_credentials() {
  while (acceptor_.is_open()) {
    asio::steady_timer pause(io_, std::chrono::milliseconds(limits::kCredentialsCheckMs));
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    refresh_credentials();
  }
}

void TcpServer::refuse(Session& session, const std::string& reason) {
  // Whoever knocks all the time must not fill the disk.
  if (!refusals_.take()) return;
  journal::Event event("refuse");
  if (session.peer != detail::kStranger) event.about(session.peer);
  note(event.set("from", session.connection->remote()).set("reason", reason));
}

}  // namespace fedctl::net

// Who may stay connected to the server, and what strangers may cost it (docs/security.md).
#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/limits.hpp"
#include "net/detail/session.hpp"

namespace fedctl::net {

namespace asio = boost::asio;

// One who has not said who it is may be put out by another, its own address's first: a client says
// hello at once.
void TcpServer::make_room(const Session& newcomer) {
  const std::string address = newcomer.address();
  const auto neighbour = [&](const auto& other) { return other->address() == address; };
  auto victim = strangers_.end();
  if (std::ranges::count_if(strangers_, neighbour) >= limits::kStrangersPerAddressMax) {
    victim = std::ranges::find_if(strangers_, neighbour);
  } else if (strangers_.size() >= limits::kStrangersMax) {
    victim = strangers_.begin();
  }
  if (victim == strangers_.end()) return;
  const std::shared_ptr<Session> out = *victim;
  strangers_.erase(victim);
  out->connection->close("too many connections, and no hello on this one");
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
  const auto now = std::chrono::steady_clock::now();
  const double earned =
      to_ms(now - std::exchange(refused_at_, now)) * 1e-3 * limits::kRefusalsPerSecond;
  refusals_left_ = std::min<double>(limits::kRefusalsAtOnce, refusals_left_ + earned);
  if (refusals_left_ < 1) return;
  refusals_left_ -= 1;
  journal::Event event("refuse");
  if (session.peer != detail::kStranger) event.about(session.peer);
  note(event.set("from", session.connection->remote()).set("reason", reason));
}

}  // namespace fedctl::net

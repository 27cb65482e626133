#include "net/server.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/limits.hpp"
#include "net/address.hpp"
#include "net/detail/session.hpp"
#include "net/greeting.hpp"

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using detail::kStranger;
using detail::TryAgain;
using talk::Message;
using talk::PeerId;

constexpr const char* kRunIsOver = "the run is over";

TimePoint in_ms(int count) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(count);
}

tcp::acceptor listen(asio::io_context& io, const std::string& host, std::uint16_t port) {
  const std::string place = host + ':' + std::to_string(port);
  try {
    tcp::resolver resolver(io);
    const tcp::endpoint endpoint =
        *resolver.resolve(host, std::to_string(port), tcp::resolver::passive).begin();
    return {io, endpoint, true};
  } catch (const boost::system::system_error& error) {
    throw ConfigError("server.listen: cannot listen on " + place + ": " + error.code().message(),
                      "is another server on this port? --listen HOST:0 picks a free one");
  }
}

}  // namespace

TcpServer::TcpServer(Options options, asio::any_io_executor executor, talk::Ledger& ledger,
                     journal::Journal& journal)
    : options_(std::move(options)),
      ledger_(ledger),
      journal_(journal),
      mailbox_(std::make_shared<Mailbox>(executor)),
      acceptor_(listen(io_, options_.host, options_.port)),
      port_(acceptor_.local_endpoint().port()),
      left_(io_) {
  mailbox_->on_fault([this](PeerId peer, const std::string& why) {
    asio::post(io_, [this, peer, why] {
      const auto found = sessions_.find(peer);
      if (found != sessions_.end()) found->second->connection->close(why);
    });
  });
  asio::co_spawn(io_, accept_loop(), asio::detached);
  if (options_.tls) asio::co_spawn(io_, watch_credentials(), asio::detached);
  thread_ = std::thread([this] { io_.run(); });
}

TcpServer::~TcpServer() {
  io_.stop();
  if (thread_.joinable()) thread_.join();
}

talk::Task<void> TcpServer::accept_loop() {
  while (acceptor_.is_open()) {
    auto [error, socket] = co_await acceptor_.async_accept(asio::as_tuple(use_awaitable));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      // Out of descriptors, most likely: let some go before the next try.
      asio::steady_timer pause(io_, std::chrono::milliseconds(limits::kAcceptPauseMs));
      co_await pause.async_wait(asio::as_tuple(use_awaitable));
      continue;
    }
    refresh_credentials();
    auto session = std::make_shared<Session>();
    TlsSettings tls;
    if (options_.tls) tls.context = options_.tls->context();
    session->connection = std::make_shared<Connection>(
        std::move(socket), std::move(tls),
        [this, raw = session.get()](Way way, const talk::Traffic& traffic, Crossed crossed) {
          count(raw->peer, way, traffic, crossed);
        });
    if (!make_room(*session)) continue;
    strangers_.push_back(session);
    asio::co_spawn(io_, serve(session), [session](std::exception_ptr) {});
    asio::co_spawn(io_, session->connection->write_loop(), [session](std::exception_ptr) {});
  }
}

// A disk that fails is the run's end, and no peer's fault.
void TcpServer::fail(std::exception_ptr error) {
  {
    const std::scoped_lock lock(failure_mutex_);
    if (!failure_) failure_ = error;
  }
  interrupt();
}

void TcpServer::note(const journal::Event& event) {
  try {
    journal_.write(std::nullopt, event);
  } catch (const Error&) {
    fail(std::current_exception());
  }
}

std::exception_ptr TcpServer::failure() const {
  const std::scoped_lock lock(failure_mutex_);
  return failure_;
}

// The whole life of one connection.
talk::Task<void> TcpServer::serve(std::shared_ptr<Session> session) {
  Connection& connection = *session->connection;
  std::string reason;
  try {
    co_await handshake(session);
    co_await converse(session);
  } catch (const boost::system::system_error& error) {
    reason = connection.close_reason();
    if (reason.empty()) {
      reason = error.code() == asio::error::eof ? "connection closed" : error.code().message();
    }
  } catch (const RunDirectoryError& error) {
    reason = error.what();
    fail(std::current_exception());
  } catch (const Error& error) {
    reason = error.what();
    if (!session->joined && dynamic_cast<const TlsError*>(&error) == nullptr) {
      const bool retry = dynamic_cast<const TryAgain*>(&error) != nullptr;
      connection.queue_control(Message("refuse").with("reason", reason).with("retry", retry));
    }
  }
  // make_room() has taken it out of the list if it was put out.
  const bool put_out = session->peer == kStranger && strangers_.remove(session) == 0;
  if (!session->joined) {
    co_await send_away(session, reason, put_out);
    co_return;
  }
  connection.close(reason);
  sessions_.erase(session->peer);
  const bool told = session->left || (goodbye_ && reason != kRunIsOver);
  if (!told) missed_[session->peer] = in_ms(limits::kGoodbyeMissedMs);
  introduce(*session, false);
  left_.cancel();
  note(journal::Event("leave").about(session->peer).set("reason", reason));
  mailbox_->push({session->peer, 0, talk::Lost{reason, session->left}});
  asio::co_spawn(io_, forget_answer(session->peer), asio::detached);
}

// Throws what serve() turns into a refusal.
talk::Task<void> TcpServer::handshake(std::shared_ptr<Session> session) {
  Connection& connection = *session->connection;
  connection.deadline(in_ms(limits::kHandshakeHelloMs), "no hello in time");
  co_await connection.handshake();
  const Received hello = co_await connection.read(limits::kHandshakeFrameBytesMax);
  const std::int64_t id =
      wire::Expect(hello.message, "hello").integer("client", 0, options_.clients - 1);
  const std::string name = "client " + std::to_string(id);
  if (options_.tls && connection.tls() == nullptr) {
    throw ProtocolError("plaintext, and this server speaks TLS alone: " + name +
                        " needs a certificate (tls in its --site file)");
  }
  if (options_.tls && !speaks_for(*connection.tls(), id)) {
    throw ProtocolError("the certificate is one for client " + clients_of_peer(*connection.tls()) +
                        ", not for " + name);
  }
  require_turn(id);
  strangers_.remove(session);
  preparing_.insert(id);
  session->peer = id;
  connection.queue_control(plan_of(options_.plan, options_.idle_s, options_.run));
  connection.deadline(in_ms(limits::kHandshakeReadyMs), "not ready in time");
  const Received ready = co_await connection.read(limits::kHandshakeFrameBytesMax);
  if (ready.message.kind == "decline") {
    throw ProtocolError("the client declined: " +
                        wire::Expect(ready.message, "decline").words("reason"));
  }
  options_.admit(ready.message, connection.tls() != nullptr || is_loopback(session->address()));
  const wire::Expect fields(ready.message, "ready");
  const bool numbered = ready.message.scalars.contains("session");
  const std::int64_t number = numbered ? fields.integer("session", INT64_MIN, INT64_MAX) : 0;
  session->have = progress_in(ready.message);
  if (options_.neighbours) session->neighbours = options_.neighbours(id);
  if (ready.message.scalars.contains("listen")) {
    session->listens = fields.integer("listen", 1, UINT16_MAX);
  }
  connection.deadline(kForever, "");
  preparing_.erase(id);
  connection.grant_ticket();
  const wire::Transfer& answer = answer_of(id);
  connection.queue_control(answer.whole() ? welcome() : with_progress(welcome(), answer));
  session->joined = true;
  sessions_.emplace(id, session);
  missed_.erase(id);
  note(journal::Event("join").about(id).set("from", connection.remote()));
  mailbox_->push({id, 0, talk::Joined{number}});
  introduce(*session, true);
  if (goodbye_) dismiss(connection);
  const auto suspect = [this, id](Duration silence) {
    note(journal::Event("suspect").about(id).set("silent_ms", to_ms(silence)));
  };
  asio::co_spawn(io_, connection.heartbeat_loop(seconds(options_.idle_s), suspect),
                 [session](std::exception_ptr) {});
}

talk::Task<void> TcpServer::converse(std::shared_ptr<Session> session) {
  Connection& connection = *session->connection;
  FrameLimits allowed{.data = options_.frame_bytes_max};
  if (!session->neighbours.empty()) allowed.relay = options_.frame_bytes_max;
  while (true) {
    Received received = co_await connection.read(allowed, &answer_of(session->peer));
    if (received.header.type == wire::FrameType::chunk) continue;
    if (received.header.type == wire::FrameType::control) {
      if (received.message.kind == "ping") {
        connection.queue_control(Message("pong"), slots::kPong);
      }
      if (received.message.kind == "relay") pass_on(*session, received.message);
      if (received.message.kind == "leave") {
        session->left = true;
        throw ProtocolError("left: " + wire::Expect(received.message, "leave").words("reason"));
      }
      continue;
    }
    if (!patience_[session->peer].messages.take()) {
      throw ProtocolError("sends without being asked");
    }
    if (mailbox_->messages_from(session->peer) >= limits::kMailboxDepthMax) {
      throw ProtocolError("sends without being asked: " + std::to_string(limits::kMailboxDepthMax) +
                          " messages wait");
    }
    deliver(session->peer, std::move(received));
    // Who is not read from is held back by TCP.
    while (!connection.closed() &&
           (mailbox_->bytes_from(session->peer) > options_.waiting_bytes_max ||
            mailbox_->bytes_in_memory() > limits::kWaitingInMemoryMax)) {
      co_await connection.hold();
    }
  }
}

void TcpServer::deliver(PeerId from, Received received) {
  talk::Envelope envelope{from, received.header.exchange, std::move(received.message)};
  if (received.stored) {
    mailbox_->push(std::move(envelope), std::move(*received.stored), received.alone);
  } else {
    mailbox_->push(std::move(envelope));
  }
}

talk::Task<void> TcpServer::send(talk::PeerId to, talk::ExchangeId exchange,
                                 talk::SharedMessage message) {
  talk::SharedFrame frame = cache_.frame(message, exchange);
  asio::post(io_, [this, to, frame = std::move(frame)]() mutable {
    const auto found = sessions_.find(to);
    if (found != sessions_.end()) ask(*found->second, frame);
  });
  co_return;
}

talk::Task<std::optional<talk::Envelope>> TcpServer::receive(TimePoint until) {
  std::optional<talk::Envelope> envelope = co_await mailbox_->receive(until);
  if (envelope) {
    if (std::holds_alternative<talk::Joined>(envelope->event)) peers_.insert(envelope->from);
    if (std::holds_alternative<talk::Lost>(envelope->event)) peers_.erase(envelope->from);
  }
  co_return envelope;
}

void TcpServer::interrupt() { mailbox_->push({talk::kServer, 0, talk::Closed{}}); }

void TcpServer::dismiss(Connection& connection) {
  connection.queue_control(end_of(*goodbye_));
  connection.deadline(std::chrono::steady_clock::now() + detail::kGoodbye, kRunIsOver);
}

TimePoint TcpServer::missed_until() const {
  TimePoint until = TimePoint::min();
  for (const auto& [peer, back] : missed_) until = std::max(until, back);
  return until;
}

// Clients hang up when they have read it; dismiss()'s deadline ends the wait for one that does not.
// One whose line broke a moment ago is on its way back, and would knock in vain for long.
talk::Task<void> TcpServer::say_goodbye(std::string status) {
  goodbye_ = status;
  for (const auto& [peer, session] : sessions_) dismiss(*session->connection);
  const bool comes_back_anyway = status == kInterrupted;
  if (comes_back_anyway) acceptor_.close();
  if (!comes_back_anyway && missed_until() > std::chrono::steady_clock::now()) {
    options_.notice("clients whose line broke in the last seconds may come back to hear that the run "
                    "is over; the server waits for them for 7 s at most");
  }
  while (true) {
    const TimePoint until = comes_back_anyway ? TimePoint::min() : missed_until();
    if (sessions_.empty() && until <= std::chrono::steady_clock::now()) break;
    left_.expires_at(sessions_.empty() ? until : TimePoint::max());
    co_await left_.async_wait(asio::as_tuple(use_awaitable));
  }
  acceptor_.close();
}

void TcpServer::finish(const std::string& status) {
  asio::co_spawn(io_, say_goodbye(status), [this](std::exception_ptr) { io_.stop(); });
  if (thread_.joinable()) thread_.join();
}

}  // namespace fedctl::net

#include "net/direct.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/limits.hpp"

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using talk::Message;
using talk::PeerId;

constexpr std::size_t kStrangersMax = 16;
constexpr int kWaitMs = 2, kWaitMsMax = 500;
constexpr int kCalls = 4;  // the other side may hear of us later than we of it

TimePoint hello_deadline() {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(limits::kHandshakeHelloMs);
}

}  // namespace

DirectLinks::DirectLinks(Options options, asio::io_context& io)
    : options_(std::move(options)), io_(io), acceptor_(io) {}

std::uint16_t DirectLinks::listen(const asio::ip::address& address) {
  if (!acceptor_.is_open()) {
    acceptor_ = tcp::acceptor(io_, tcp::endpoint(address, 0));
    asio::co_spawn(io_, accept_loop(), [self = shared_from_this()](std::exception_ptr) {});
  }
  return acceptor_.local_endpoint().port();
}

std::shared_ptr<Connection> DirectLinks::make(tcp::socket socket,
                                              const std::shared_ptr<Credentials>& tls) {
  TlsSettings settings;
  if (tls) {
    tls->refresh();
    settings.context = tls->context();
  }
  return std::make_shared<Connection>(std::move(socket), std::move(settings), options_.count);
}

// Throws ProtocolError unless the neighbour's certificate, under TLS, says that it is this one.
void DirectLinks::require_name(Connection& connection, PeerId neighbour) const {
  if (!options_.greet) return;
  if (connection.tls() == nullptr || !speaks_for(*connection.tls(), neighbour)) {
    throw ProtocolError("no certificate of client " + std::to_string(neighbour));
  }
}

talk::Task<void> DirectLinks::accept_loop() {
  while (acceptor_.is_open()) {
    auto [error, socket] = co_await acceptor_.async_accept(asio::as_tuple(use_awaitable));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      asio::steady_timer pause(io_, std::chrono::milliseconds(limits::kAcceptPauseMs));
      co_await pause.async_wait(asio::as_tuple(use_awaitable));
      continue;
    }
    if (strangers_ >= kStrangersMax) continue;
    ++strangers_;
    std::shared_ptr<Connection> connection = make(std::move(socket), options_.greet);
    asio::co_spawn(io_, greet(connection),
                   [self = shared_from_this(), connection](std::exception_ptr failed) {
                     if (failed) connection->close("refused");
                   });
  }
}

bool DirectLinks::knows(PeerId neighbour, const std::string& ticket) const {
  const auto known = introduced_.find(neighbour);
  return known != introduced_.end() && known->second.ticket == ticket;
}

talk::Task<void> DirectLinks::greet(std::shared_ptr<Connection> connection) {
  PeerId neighbour = 0;
  try {
    connection->deadline(hello_deadline(), "no hello in time");
    co_await connection->handshake();
    const Received hello = co_await connection->read(limits::kHandshakeFrameBytesMax);
    const wire::Expect fields(hello.message, "hello");
    neighbour = fields.integer("client", 0, limits::kClientsMax);
    // The server's word may be on its way still.
    asio::steady_timer wait(io_);
    for (int waited_ms = 0; !knows(neighbour, fields.text("ticket")); waited_ms += kWaitMs) {
      if (waited_ms >= kWaitMsMax) throw ProtocolError("a stranger");
      wait.expires_after(std::chrono::milliseconds(kWaitMs));
      co_await wait.async_wait(asio::as_tuple(use_awaitable));
    }
    require_name(*connection, neighbour);
  } catch (...) {
    --strangers_;
    throw;
  }
  --strangers_;
  asio::co_spawn(io_, connection->write_loop(), [connection](std::exception_ptr) {});
  connection->queue_control(Message("welcome"));
  co_await converse(neighbour, connection);
}

talk::Task<std::shared_ptr<Connection>> DirectLinks::call_once(PeerId neighbour) {
  const auto self = shared_from_this();
  const tcp::endpoint place = introduced_.at(neighbour).place;
  const std::string ticket = introduced_.at(neighbour).ticket;
  std::shared_ptr<Connection> connection;
  try {
    tcp::socket socket(io_);
    co_await socket.async_connect(place, use_awaitable);
    connection = make(std::move(socket), options_.call);
    connection->deadline(hello_deadline(), "no welcome in time");
    co_await connection->handshake();
    require_name(*connection, neighbour);
    asio::co_spawn(io_, connection->write_loop(), [connection](std::exception_ptr) {});
    connection->queue_control(Message("hello").with("client", options_.id).with("ticket", ticket));
    const Received answer = co_await connection->read(limits::kHandshakeFrameBytesMax);
    const wire::Expect expected(answer.message, "welcome");
    co_return connection;
  } catch (const std::exception&) {
    if (connection) connection->close("refused");
  }
  co_return nullptr;
}

talk::Task<void> DirectLinks::call(PeerId neighbour) {
  const auto self = shared_from_this();
  int pause_ms = limits::kReconnectFirstMs;
  for (int calls = 0; calls < kCalls && !stopping_ && !has(neighbour); ++calls) {
    if (!introduced_.at(neighbour).calls.take()) break;  // the server says too often where it is
    const std::shared_ptr<Connection> connection = co_await call_once(neighbour);
    if (connection) {
      introduced_.at(neighbour).calling = false;
      co_await converse(neighbour, connection);
      co_return;
    }
    asio::steady_timer pause(io_, std::chrono::milliseconds(pause_ms));
    co_await pause.async_wait(asio::as_tuple(use_awaitable));
    pause_ms *= 2;
  }
  introduced_.at(neighbour).calling = false;
}

talk::Task<void> DirectLinks::converse(PeerId neighbour, std::shared_ptr<Connection> connection) {
  const auto self = shared_from_this();
  if (const auto old = links_.find(neighbour); old != links_.end()) old->second->close("replaced");
  links_[neighbour] = connection;
  connection->deadline(kForever, "");
  asio::co_spawn(io_, connection->heartbeat_loop(options_.idle),
                 [connection](std::exception_ptr) {});
  std::string reason = "hung up";
  try {
    wire::Transfer transfer;
    while (true) {
      Received received = co_await connection->read({.data = options_.frame_bytes_max}, &transfer);
      if (received.header.type == wire::FrameType::chunk) continue;
      if (received.header.type == wire::FrameType::data) {
        options_.heard(neighbour, std::move(received));
      } else if (received.message.kind == "ping") {
        connection->queue_control(Message("pong"), slots::kPong);
      }
    }
  } catch (const std::exception& error) {
    reason = error.what();
  }
  connection->close(reason);
  const auto mine = links_.find(neighbour);
  if (mine == links_.end() || mine->second != connection) co_return;
  links_.erase(mine);
  if (!stopping_) options_.lost(neighbour);
}

void DirectLinks::introduce(PeerId neighbour, tcp::endpoint place, std::string ticket) {
  Introduction& introduction = introduced_[neighbour];
  introduction.place = place;
  introduction.ticket = std::move(ticket);
  if (options_.id > neighbour || has(neighbour)) return;
  if (std::exchange(introduction.calling, true)) return;  // the next try goes there
  asio::co_spawn(io_, call(neighbour), asio::detached);
}

bool DirectLinks::send(PeerId neighbour, talk::SharedFrame frame) {
  const auto found = links_.find(neighbour);
  if (found == links_.end()) return false;
  // Of one who is behind, only the last are of use.
  found->second->queue(std::move(frame), 0, slots::relay_by(neighbour), limits::kRelaysQueuedMax);
  return true;
}

void DirectLinks::stop() {
  stopping_ = true;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  for (const auto& [neighbour, connection] : links_) connection->close("the run is over");
}

}  // namespace fedctl::net

#include "net/detail/link.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/limits.hpp"
#include "net/greeting.hpp"

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using talk::Message;
using Clock = std::chrono::steady_clock;

// The server cannot have us now, but perhaps soon.
struct RetryLater : ProtocolError {
  using ProtocolError::ProtocolError;
};

}  // namespace

void TcpClient::Link::fail(std::exception_ptr error) {
  {
    const std::scoped_lock lock(mutex);
    if (!failure) failure = error;
  }
  news(talk::Closed{});
}

// Connects, converses, reconnects, until the run ends or there is no way on.
talk::Task<void> TcpClient::Link::run() {
  const auto self = shared_from_this();
  int pause_ms = limits::kReconnectFirstMs;
  TimePoint give_up = Clock::now() + seconds(options.first_retry_s);
  while (!stopping) {
    std::exception_ptr problem;
    std::string why;
    joined = false;
    try {
      co_await connect();
      co_await handshake();
      joined = true;
      news(talk::Joined{});
      co_await converse();
      co_return;  // the server said that the run is over
    } catch (const boost::system::system_error& error) {
      why = connection && !connection->close_reason().empty() ? connection->close_reason()
                                                              : error.code().message();
    } catch (const RetryLater& error) {
      why = error.what();
    } catch (...) {
      problem = std::current_exception();
    }
    if (connection) connection->close(why);
    if (stopping) co_return;
    if (problem) {
      fail(problem);
      co_return;
    }
    if (std::exchange(joined, false)) {
      news(talk::Lost{why});
      pause_ms = limits::kReconnectFirstMs;
      give_up = Clock::now() + seconds(options.later_retry_s);
      options.notice("client " + std::to_string(options.id) + ": lost the server (" + why +
                     "), reconnecting");
    }
    if (Clock::now() >= give_up) {
      fail(std::make_exception_ptr(ProtocolError(
          "client " + std::to_string(options.id) + ": cannot connect to " + options.server.host +
              ':' + std::to_string(options.server.port) + ": " + why,
          "is the server running there? --retry-s N keeps trying for N seconds")));
      co_return;
    }
    asio::steady_timer pause(io, std::chrono::milliseconds(pause_ms));
    co_await pause.async_wait(asio::as_tuple(use_awaitable));
    pause_ms = std::min(2 * pause_ms, limits::kReconnectLongestMs);
  }
}

talk::Task<void> TcpClient::Link::connect() {
  connection = nullptr;
  tcp::resolver resolver(io);
  const auto places = co_await resolver.async_resolve(
      options.server.host, std::to_string(options.server.port), use_awaitable);
  tcp::socket socket(io);
  co_await asio::async_connect(socket, places, use_awaitable);
  TlsSettings settings;
  if (options.tls) {
    options.tls->refresh();
    if (tls != options.tls->context()) {
      tls = options.tls->context();
      ticket.set(nullptr);
    }
    settings = {tls, options.server.host, &ticket};
  }
  connection =
      std::make_shared<Connection>(std::move(socket), std::move(settings),
                                   [bytes = allowance](Way, const talk::Traffic& traffic, Crossed) {
                                     bytes->spend(traffic.sum());
                                   });
  connection->deadline(Clock::now() + std::chrono::milliseconds(limits::kHandshakeReadyMs),
                       "the server does not answer");
  co_await connection->handshake();
  asio::co_spawn(io, connection->write_loop(), asio::detached);
}

talk::Task<talk::SharedMessage> TcpClient::Link::prepare_elsewhere(std::shared_ptr<Link> self,
                                                                   std::string plan,
                                                                   std::int64_t run) {
  co_return wire::share(self->options.prepare(plan, run));
}

talk::Task<void> TcpClient::Link::handshake() {
  connection->queue_control(hello_of(options.id, options.version));
  const auto check = [](const Received& received, const char* expected) {
    if (received.message.kind == "refuse") {
      const wire::Expect refuse(received.message, "refuse");
      const std::string reason = "refused by the server: " + refuse.text("reason");
      const auto retry = received.message.scalars.find("retry");
      if (retry != received.message.scalars.end() && retry->second == wire::Scalar(true)) {
        throw RetryLater(reason);
      }
      throw ProtocolError(reason);
    }
    return wire::Expect(received.message, expected);
  };
  const Received plan =
      co_await connection->read(limits::kYamlBytesMax + limits::kHandshakeFrameBytesMax);
  const wire::Expect fields = check(plan, "plan");
  idle_s = fields.real("idle_s");
  if (!(idle_s > 0 && idle_s <= limits::kIdleMaxS)) {
    throw ProtocolError("the server's idle_s is " + std::to_string(idle_s));
  }
  const bool numbered = plan.message.scalars.contains("run");
  const std::int64_t run = numbered ? fields.integer("run", INT64_MIN, INT64_MAX) : 0;
  talk::SharedMessage ready;
  std::exception_ptr declined;
  try {
    ready = co_await asio::co_spawn(
        executor, prepare_elsewhere(shared_from_this(), fields.text("experiment"), run),
        use_awaitable);
  } catch (const Error& error) {
    declined = std::current_exception();
    connection->queue_control(Message("decline").with("reason", std::string(error.what())));
  }
  if (declined) {
    co_await connection->flush();
    std::rethrow_exception(declined);
  }
  Message answer = question.chunks() > 0 ? with_progress(*ready, question) : *ready;
  if (const auto port = listen()) answer = listening(std::move(answer), *port);
  connection->queue_control(answer);
  const Received welcome = co_await connection->read(limits::kHandshakeFrameBytesMax);
  check(welcome, "welcome");
  kept = progress_in(welcome.message);
  answered = 0;
  connection->deadline(kForever, "");
  asio::co_spawn(io, connection->heartbeat_loop(seconds(idle_s)), asio::detached);
}

talk::Task<void> TcpClient::Link::leave() {
  const auto self = shared_from_this();
  const std::string reason = allowance->spent();
  stopping = true;
  connection->queue_control(Message("leave").with("reason", reason));
  connection->deadline(Clock::now() + std::chrono::milliseconds(limits::kHandshakeHelloMs), "left");
  co_await connection->flush();
  connection->close(reason);
  fail(std::make_exception_ptr(
      ProtocolError("client " + std::to_string(options.id) + ": " + reason)));
}

talk::Task<void> TcpClient::Link::converse() {
  while (true) {
    // What comes may begin a round.
    const auto allowed = static_cast<std::size_t>(allowance->left_in_another_round());
    Received received;
    bool refused = false;
    try {
      received = co_await connection->read(allowed, &question);
    } catch (const wire::TooLarge&) {
      if (allowed >= limits::kFrameBytesMax) throw;
      refused = true;
    }
    if (!refused && received.header.type != wire::FrameType::control) {
      allowance->belongs_to(received.header.exchange);
      refused = allowance->left() == 0;
    }
    if (refused) {
      co_await leave();
      co_return;
    }
    if (received.header.type == wire::FrameType::chunk) continue;
    if (received.header.type == wire::FrameType::data) {
      news(std::move(received.message), received.header.exchange);
    } else if (received.message.kind == "again") {
      news(talk::Again{},
           static_cast<talk::ExchangeId>(
               wire::Expect(received.message, "again").integer("exchange", 1, INT64_MAX)));
    } else if (received.message.kind == "relay") {
      hear_relay(received.message);
    } else if (received.message.kind == "neighbour") {
      hear_of(received.message);
    } else if (received.message.kind == "ping") {
      connection->queue_control(Message("pong"));
    } else if (received.message.kind == "end") {
      {
        const std::scoped_lock lock(mutex);
        end_status = wire::Expect(received.message, "end").text("status");
      }
      connection->close("the run is over");
      if (direct) direct->stop();
      news(talk::Closed{});
      co_return;
    }
  }
}

void TcpClient::Link::answer(talk::SharedFrame frame) {
  // The server asks again when we are back; on one connection one answer does.
  if (!joined || frame->exchange == answered) return;
  std::size_t skip = kept.of(frame->id, frame->chunks);
  if (skip == frame->chunks) skip = 0;  // the server says otherwise
  std::uint64_t bytes = frame->parts.sum();
  for (std::size_t i = 0; i < skip; ++i) bytes -= frame->parts_of(i).sum();
  if (bytes > allowance->left()) {
    asio::co_spawn(io, leave(), asio::detached);
    return;
  }
  answered = frame->exchange;
  connection->queue(std::move(frame), skip);
}

}  // namespace fedctl::net

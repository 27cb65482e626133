#include "net/detail/link.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/legible.hpp"
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

// Why there is no way on to a server that has been tried long enough.
std::exception_ptr TcpClient::Link::not_back(const std::string& why) const {
  const std::string client = "client " + std::to_string(options.id) + ": ";
  const std::string place = options.server.host + ':' + std::to_string(options.server.port);
  const std::string hint = "is the server running there? --retry-s N keeps trying for N seconds";
  const std::string what = end_status
                               ? "the run was interrupted, and not taken up again at " + place
                               : "cannot connect to " + place;
  return std::make_exception_ptr(ProtocolError(client + what + ": " + why, hint));
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
      const bool over = co_await converse();
      if (over) co_return;
      why = "the run was interrupted";
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
      fail(not_back(why));
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
      const std::string reason = "refused by the server: " + refuse.words("reason");
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
  std::string reason;
  try {
    ready = co_await asio::co_spawn(
        executor, prepare_elsewhere(shared_from_this(), fields.text("experiment"), run),
        use_awaitable);
  } catch (const Declined& refusal) {
    declined = refusal.cause;
    reason = refusal.told;
  } catch (const Error& error) {
    declined = std::current_exception();
    reason = legible(error.what());
  }
  if (declined) {
    connection->queue_control(Message("decline").with("reason", reason));
    co_await connection->flush();
    std::rethrow_exception(declined);
  }
  if (options.facts) {
    facts = options.facts();
    allowance->expect(facts.rounds);
  }
  Message answer = question.chunks() > 0 ? with_progress(*ready, question) : *ready;
  if (const auto port = listen()) answer = listening(std::move(answer), *port);
  connection->queue_control(answer);
  const Received welcome = co_await connection->read(limits::kHandshakeFrameBytesMax);
  check(welcome, "welcome");
  kept = progress_in(welcome.message);
  {
    const std::scoped_lock lock(mutex);
    end_status.reset();
  }
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

bool TcpClient::Link::is_full(talk::PeerId from) const {
  const std::size_t messages = mailbox->messages_from(from);
  const std::size_t always = from == talk::kServer ? 1 : limits::kRelaysQueuedMax;
  return messages >= limits::kMailboxDepthMax ||
         (messages > always && mailbox->bytes_from(from) > limits::kWaitingBytesMax);
}

bool TcpClient::Link::is_full() const {
  return is_full(talk::kServer) || mailbox->waiting() >= limits::kMailboxNewsMax ||
         connection->data_queued() >= limits::kAnswersQueuedMax;
}

talk::Task<bool> TcpClient::Link::converse() {
  while (true) {
    // The server is held back by TCP, and replaces what it could not send.
    while (!connection->closed() && is_full()) co_await connection->hold();
    // What comes may begin a round.
    const auto left = static_cast<std::size_t>(allowance->left_in_another_round());
    FrameLimits allowed{std::min(left, facts.question_bytes_max),
                        std::min(left, limits::kControlBytesMax)};
    if (!facts.neighbours.empty()) allowed.relay = allowed.data;
    Received received;
    bool refused = false;
    try {
      received = co_await connection->read(allowed, &question);
    } catch (const wire::TooLarge&) {
      if (left >= facts.question_bytes_max) throw;
      refused = true;
    }
    const bool control = received.header.type == wire::FrameType::control;
    if (!refused && !control) {
      allowance->belongs_to(received.header.exchange);
      refused = allowance->left() == 0;
    }
    if (refused) {
      co_await leave();
      co_return true;
    }
    if (received.header.type == wire::FrameType::chunk) continue;
    if (!control) {
      news(std::move(received.message), received.header.exchange);
    } else if (!hear(received.message)) {
      co_return *end_status != kInterrupted;
    }
  }
}

bool TcpClient::Link::hear(const Message& message) {
  if (message.kind == "again") {
    news(talk::Again{}, static_cast<talk::ExchangeId>(
                            wire::Expect(message, "again").integer("exchange", 1, INT64_MAX)));
  } else if (message.kind == "relay") {
    hear_relay(message);
  } else if (message.kind == "neighbour") {
    hear_of(message);
  } else if (message.kind == "ping") {
    connection->queue_control(Message("pong"), slots::kPong);
  } else if (message.kind == "end") {
    {
      const std::scoped_lock lock(mutex);
      end_status = wire::Expect(message, "end").words("status");
    }
    connection->close("the run is over");
    if (*end_status == kInterrupted) return false;  // and perhaps taken up again
    if (direct) direct->stop();
    news(talk::Closed{});
    return false;
  }
  return true;
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

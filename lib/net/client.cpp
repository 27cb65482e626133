#include "net/client.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>

#include "base/limits.hpp"
#include "net/allowance.hpp"

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

ClientLoop::ClientLoop() : guard_(asio::make_work_guard(io_)) {
  thread_ = std::thread([this] { io_.run(); });
}
ClientLoop::~ClientLoop() {
  io_.stop();
  thread_.join();
}

struct TcpClient::Link : std::enable_shared_from_this<Link> {
  Link(Options options_, asio::io_context& io_, asio::any_io_executor executor_)
      : options(std::move(options_)),
        io(io_),
        executor(executor_),
        mailbox(std::make_shared<Mailbox>(executor_)),
        allowance(std::make_shared<Allowance>(options.round_bytes_max, options.total_bytes_max)) {}

  talk::Task<void> run();
  talk::Task<void> connect();
  talk::Task<void> handshake();
  talk::Task<void> converse();
  talk::Task<void> leave();
  static talk::Task<talk::SharedMessage> prepare_elsewhere(std::shared_ptr<Link> self,
                                                           std::string plan, std::int64_t run);
  void fail(std::exception_ptr error);
  void news(std::variant<Message, talk::Joined, talk::Lost, talk::Rejected, talk::Closed> event) {
    mailbox->push({talk::kServer, 0, std::move(event)});
  }

  Options options;
  asio::io_context& io;
  asio::any_io_executor executor;
  std::shared_ptr<Mailbox> mailbox;
  std::shared_ptr<Allowance> allowance;  // shared with every connection
  std::shared_ptr<Connection> connection;
  std::shared_ptr<const TlsContext> tls;  // what the ticket is good for
  TlsTicket ticket;
  double idle_s = 30;
  bool joined = false;  // the handshake of `connection` is over
  bool stopping = false;

  mutable std::mutex mutex;  // guards what other threads read
  std::exception_ptr failure;
  std::optional<std::string> end_status;
};

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
  connection = std::make_shared<Connection>(
      std::move(socket), std::move(settings),
      [bytes = allowance](Way, const talk::Traffic& traffic, talk::ExchangeId) {
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
  connection->queue_control(
      Message("hello").with("client", options.id).with("version", options.version));
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
  connection->queue_control(*ready);
  const Received welcome = co_await connection->read(limits::kHandshakeFrameBytesMax);
  check(welcome, "welcome");
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
      received = co_await connection->read(allowed);
    } catch (const WireError&) {
      if (allowed >= limits::kFrameBytesMax) throw;
      refused = true;
    }
    if (!refused && received.header.type == wire::FrameType::data) {
      allowance->belongs_to(received.header.exchange);
      refused = allowance->left() == 0;
    }
    if (refused) {
      co_await leave();
      co_return;
    }
    if (received.header.type == wire::FrameType::data) {
      mailbox->push({talk::kServer, received.header.exchange, std::move(received.message)});
    } else if (received.message.kind == "ping") {
      connection->queue_control(Message("pong"));
    } else if (received.message.kind == "end") {
      {
        const std::scoped_lock lock(mutex);
        end_status = wire::Expect(received.message, "end").text("status");
      }
      connection->close("the run is over");
      news(talk::Closed{});
      co_return;
    }
  }
}

TcpClient::TcpClient(Options options, ClientLoop& loop, asio::any_io_executor executor)
    : link_(std::make_shared<Link>(std::move(options), loop.io(), std::move(executor))) {}
TcpClient::~TcpClient() = default;

void TcpClient::start() {
  asio::co_spawn(
      link_->io,
      [](std::shared_ptr<Link> link) -> talk::Task<void> { co_await link->run(); }(link_),
      asio::detached);
}

void TcpClient::stop() {
  asio::post(link_->io, [link = link_] {
    link->stopping = true;
    if (link->connection) link->connection->close("stopped");
    link->news(talk::Closed{});
  });
}

std::exception_ptr TcpClient::failure() const {
  const std::scoped_lock lock(link_->mutex);
  return link_->failure;
}

std::optional<std::string> TcpClient::end_status() const {
  const std::scoped_lock lock(link_->mutex);
  return link_->end_status;
}

std::vector<talk::PeerId> TcpClient::peers() const {
  return joined_ ? std::vector<talk::PeerId>{talk::kServer} : std::vector<talk::PeerId>{};
}

talk::Task<void> TcpClient::send(talk::PeerId, talk::ExchangeId exchange,
                                 talk::SharedMessage message) {
  talk::SharedFrame frame = talk::make_frame(exchange, *message);
  asio::post(link_->io, [link = link_, frame = std::move(frame)]() mutable {
    // An answer to a question from before the connection broke: the server has counted this client
    // as lost.
    if (!link->joined) return;
    if (frame->bytes.size() > link->allowance->left()) {
      asio::co_spawn(link->io, link->leave(), asio::detached);
    } else {
      link->connection->queue(std::move(frame));
    }
  });
  co_return;
}

talk::Task<std::optional<talk::Envelope>> TcpClient::receive(TimePoint until) {
  std::optional<talk::Envelope> envelope = co_await link_->mailbox->receive(until);
  if (envelope) {
    if (std::holds_alternative<talk::Joined>(envelope->event)) joined_ = true;
    if (std::holds_alternative<talk::Lost>(envelope->event)) joined_ = false;
  }
  co_return envelope;
}

}  // namespace fedctl::net

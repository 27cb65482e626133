#include "net/connection.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;  // read and written at a time

std::string describe(const asio::ip::tcp::socket& socket) {
  boost::system::error_code error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return "?";
  return remote.address().to_string() + ':' + std::to_string(remote.port());
}

talk::Traffic control_bytes(std::size_t count, std::uint64_t tls = 0) {
  talk::Traffic traffic;
  traffic.control = count;
  traffic.tls = tls;
  return traffic;
}

}  // namespace

talk::SharedFrame control_frame(const talk::Message& message) {
  auto frame = std::make_shared<talk::Frame>();
  frame->bytes = wire::encode_frame(wire::FrameType::control, 0, message);
  frame->parts = control_bytes(frame->bytes.size());
  return frame;
}

Connection::Connection(Stream::Socket socket, TlsSettings tls, Count count)
    : stream_(std::move(socket), std::move(tls)),
      queued_(stream_.socket().get_executor()),
      drained_(stream_.socket().get_executor()),
      beat_(stream_.socket().get_executor()),
      deadline_(stream_.socket().get_executor()),
      count_(std::move(count)),
      remote_(describe(stream_.socket())),
      alive_(Clock::now()) {}

talk::Task<void> Connection::handshake() {
  try {
    co_await stream_.handshake();
  } catch (...) {
    for (const Way way : {Way::in, Way::out}) {
      count_(way, control_bytes(0, stream_.last_overhead(way)), 0);
    }
    throw;
  }
}

talk::Task<void> Connection::fill(std::byte* out, std::size_t count) {
  while (count > 0) {
    const std::size_t got = co_await stream_.read_some(out, count);
    alive_ = Clock::now();
    partial_ += got;
    out += got;
    count -= got;
  }
}

talk::Task<Received> Connection::read(std::size_t bytes_max) {
  std::array<std::byte, wire::kHeaderBytes> raw{};
  Bytes body;
  Received received;
  partial_ = 0;
  try {
    co_await fill(raw.data(), raw.size());
    received.header = wire::decode_header(raw, bytes_max);
    while (body.size() < received.header.body_bytes) {
      const std::size_t at = body.size();
      body.resize(std::min<std::size_t>(received.header.body_bytes, at + kPieceBytes));
      co_await fill(body.data() + at, body.size() - at);
    }
    received.message = wire::decode_body(received.header, raw, body);
  } catch (...) {
    count_(Way::in, control_bytes(partial_, stream_.last_overhead(Way::in)), 0);
    throw;
  }
  talk::Traffic parts;
  if (received.header.type == wire::FrameType::data) {
    parts.payload = wire::payload_bytes(received.message);
    parts.framing = partial_ - parts.payload;
  } else {
    parts.control = partial_;
  }
  parts.tls = stream_.overhead(Way::in);
  count_(Way::in, parts, received.header.exchange);
  co_return received;
}

void Connection::queue(talk::SharedFrame frame) {
  if (closed()) return;
  queue_.push_back(std::move(frame));
  queued_.cancel();
}

void Connection::queue_control(const talk::Message& message) { queue(control_frame(message)); }

talk::Task<void> Connection::write(talk::SharedFrame frame) {
  const bool data = frame->parts.control == 0;
  std::size_t at = 0;
  boost::system::error_code error;
  while (!error && at < frame->bytes.size()) {
    const std::size_t piece = std::min(kPieceBytes, frame->bytes.size() - at);
    const Stream::Written written =
        co_await stream_.write(ByteView(frame->bytes).subspan(at, piece));
    at += written.sent;
    error = written.error;
    // A ping that the kernel swallowed says nothing of the peer; a large frame that moves does.
    if (data && !error) alive_ = Clock::now();
  }
  talk::Traffic parts = error ? control_bytes(at) : frame->parts;
  parts.tls = error ? stream_.last_overhead(Way::out) : stream_.overhead(Way::out);
  count_(Way::out, parts, error ? 0 : frame->exchange);
  if (error) close(error.message());
}

talk::Task<void> Connection::write_loop() {
  const auto self = shared_from_this();
  while (!closed()) {
    if (queue_.empty()) {
      drained_.cancel();
      queued_.expires_at(TimePoint::max());
      co_await queued_.async_wait(asio::as_tuple(use_awaitable));
      continue;
    }
    talk::SharedFrame frame = queue_.front();
    co_await write(frame);
    if (!queue_.empty()) queue_.pop_front();  // close() may have emptied it
  }
}

talk::Task<void> Connection::flush() {
  const auto self = shared_from_this();
  while (!closed() && !queue_.empty()) {
    drained_.expires_at(TimePoint::max());
    co_await drained_.async_wait(asio::as_tuple(use_awaitable));
  }
}

talk::Task<void> Connection::heartbeat_loop(Duration idle) {
  const auto self = shared_from_this();
  while (!closed()) {
    beat_.expires_after(idle / 3);
    co_await beat_.async_wait(asio::as_tuple(use_awaitable));
    const Duration silence = Clock::now() - alive_;
    if (closed()) co_return;
    if (silence >= idle) {
      close("silent for " +
            std::to_string(std::chrono::duration_cast<std::chrono::seconds>(silence).count()) +
            " s");
    } else if (silence >= idle / 3) {
      queue_control(talk::Message("ping"));
    }
  }
}

void Connection::deadline(TimePoint until, std::string reason) {
  deadline_.expires_at(until);
  if (until == kForever) return;
  deadline_.async_wait([self = shared_from_this(), reason = std::move(reason)](auto error) {
    if (!error) self->close(reason);
  });
}

void Connection::close(const std::string& reason) {
  if (closed()) return;
  reason_ = reason;
  boost::system::error_code ignored;
  stream_.socket().shutdown(Stream::Socket::shutdown_both, ignored);
  stream_.socket().close(ignored);
  queue_.clear();
  queued_.cancel();
  drained_.cancel();
  beat_.cancel();
  deadline_.cancel();
}

}  // namespace fedctl::net

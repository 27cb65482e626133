#include "net/connection.hpp"

#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;  // read and written at a time
// What the kernel may hold unsent: lost with the connection, and in front of a heartbeat.
constexpr int kUnsentBytesMax = 256 << 10;

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
      alive_(Clock::now()) {
  boost::system::error_code ignored;
  stream_.socket().set_option(
      asio::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>(kUnsentBytesMax),
      ignored);
}

talk::Task<void> Connection::handshake() {
  try {
    co_await stream_.handshake();
  } catch (...) {
    for (const Way way : {Way::in, Way::out}) {
      count_(way, control_bytes(0, stream_.last_overhead(way)), {});
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

talk::Task<void> Connection::pour(std::size_t count, Sink sink) {
  static thread_local std::array<std::byte, limits::kReadBytes> buffer;
  while (count > 0) {
    const std::size_t got =
        stream_.read_now(std::span(buffer).first(std::min(buffer.size(), count)));
    if (got == 0) {
      co_await stream_.wait();
      continue;
    }
    alive_ = Clock::now();
    partial_ += got;
    count -= got;
    sink(ByteView(buffer).first(got));
    // The others' turn.
    if (count > 0) co_await asio::post(stream_.socket().get_executor(), use_awaitable);
  }
}

talk::Task<std::size_t> Connection::read_chunk(Received& received, const RawHeader& raw,
                                               wire::Transfer& transfer, std::size_t bytes_max) {
  if (received.header.body_bytes < wire::kChunkHeadBytes) {
    throw WireError("a chunk without its head");
  }
  std::array<std::byte, wire::kChunkHeadBytes> head{};
  co_await fill(head.data(), head.size());
  transfer.begin(received.header, head, bytes_max);
  wire::Checksum checksum(raw);
  checksum.add(head);
  co_await pour(received.header.body_bytes - head.size(), [&](ByteView part) {
    checksum.add(part);
    transfer.write(part);
  });
  checksum.check(received.header);
  wire::Transfer::Piece piece = transfer.end();
  received.stored = std::move(piece.stored);
  received.alone = received.stored.has_value();
  if (piece.message) received.message = std::move(*piece.message);
  if (piece.message || received.stored) received.header.type = wire::FrameType::data;
  co_return piece.payload;
}

talk::Task<std::size_t> Connection::read_stored(Received& received, const RawHeader& raw,
                                                Scratch& scratch) {
  const std::size_t bytes = raw.size() + received.header.body_bytes;
  wire::StoredFrame frame{scratch.take(bytes), bytes, received.header.exchange};
  wire::Checksum checksum(raw);
  frame.region->write(0, raw);
  std::size_t at = raw.size();
  co_await pour(received.header.body_bytes, [&](ByteView part) {
    checksum.add(part);
    frame.region->write(at, part);
    at += part.size();
  });
  checksum.check(received.header);
  received.message = frame.read();
  received.stored = std::move(frame);
  co_return wire::payload_bytes(received.message);
}

talk::Task<Bytes> Connection::read_kind(const wire::Header& header, const FrameLimits& allowed) {
  Bytes body;
  if (header.body_bytes <= allowed.control) co_return body;
  wire::require_size(header, std::max(allowed.control, allowed.relay));
  ByteWriter(body).text("relay");
  const Bytes relay = body;
  co_await fill(body.data(), body.size());
  if (body != relay) wire::require_size(header, allowed.control);
  co_return body;
}

talk::Task<std::size_t> Connection::read_whole(Received& received, const RawHeader& raw,
                                               Bytes body) {
  while (body.size() < received.header.body_bytes) {
    const std::size_t at = body.size();
    body.resize(std::min<std::size_t>(received.header.body_bytes, at + kPieceBytes));
    co_await fill(body.data() + at, body.size() - at);
  }
  received.message = wire::decode_body(received.header, raw, body);
  const bool data = received.header.type == wire::FrameType::data;
  co_return data ? wire::payload_bytes(received.message) : 0;
}

talk::Task<Received> Connection::read(FrameLimits allowed, wire::Transfer* transfer) {
  RawHeader raw{};
  Received received;
  talk::Traffic parts;
  Crossed crossed;
  partial_ = 0;
  try {
    co_await fill(raw.data(), raw.size());
    received.header = wire::decode_header(raw, limits::kFrameBytesMax);
    const wire::Header& header = received.header;
    if (header.type != wire::FrameType::control) wire::require_size(header, allowed.data);
    crossed = {header.exchange, 1};
    if (header.type == wire::FrameType::chunk && transfer != nullptr) {
      parts.payload = co_await read_chunk(received, raw, *transfer, allowed.data);
      crossed.chunks = transfer->chunks();
    } else if (header.type == wire::FrameType::data && transfer != nullptr && transfer->scratch() &&
               header.body_bytes > limits::kFrameBytesInMemory) {
      parts.payload = co_await read_stored(received, raw, *transfer->scratch());
    } else {
      Bytes begun;
      if (header.type == wire::FrameType::control) begun = co_await read_kind(header, allowed);
      parts.payload = co_await read_whole(received, raw, std::move(begun));
    }
  } catch (...) {
    count_(Way::in, control_bytes(partial_, stream_.last_overhead(Way::in)), {});
    throw;
  }
  const bool control = received.header.type == wire::FrameType::control;
  (control ? parts.control : parts.framing) = partial_ - parts.payload;
  parts.tls = stream_.overhead(Way::in);
  count_(Way::in, parts, control ? Crossed{} : crossed);
  co_return received;
}

void Connection::queue(talk::SharedFrame frame, std::size_t skip, Slot slot, std::size_t keep) {
  if (closed()) return;
  if (slot != slots::kEach) {
    const auto same = [slot](const Waiting& waiting) { return waiting.slot == slot; };
    const auto first = [this] { return writing_ ? std::next(queue_.begin()) : queue_.begin(); };
    auto waiting = std::count_if(first(), queue_.end(), same);
    for (; waiting >= static_cast<std::ptrdiff_t>(keep); --waiting) {
      queue_.erase(std::find_if(first(), queue_.end(), same));
    }
  }
  queue_.push_back({std::move(frame), skip, slot});
  queued_.cancel();
}

void Connection::queue_control(const talk::Message& message, Slot slot, std::size_t keep) {
  queue(control_frame(message), 0, slot, keep);
}

std::size_t Connection::data_queued() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      queue_, [](const Waiting& waiting) { return waiting.frame->parts.control == 0; }));
}

talk::Task<void> Connection::hold() {
  held_ = true;
  asio::steady_timer pause(stream_.socket().get_executor(),
                           std::chrono::milliseconds(limits::kHoldMs));
  co_await pause.async_wait(asio::as_tuple(use_awaitable));
  alive_ = Clock::now();
}

// False if the connection is gone.
talk::Task<bool> Connection::write_frame(ByteView head, ByteView rest, talk::Traffic parts,
                                         Crossed crossed) {
  const auto [error, sent] = co_await stream_.write(head, rest);
  // A ping that the kernel swallowed says nothing of the peer; a large frame that moves does.
  if (crossed.exchange != 0 && !error) alive_ = Clock::now();
  if (error) parts = control_bytes(sent);
  parts.tls = error ? stream_.last_overhead(Way::out) : stream_.overhead(Way::out);
  count_(Way::out, parts, error ? Crossed{} : crossed);
  if (error) close(error.message());
  co_return !error;
}

talk::Task<void> Connection::write(talk::SharedFrame frame, std::size_t skip) {
  if (frame->chunks == 1) {
    const bool data = frame->parts.control == 0;
    const Crossed crossed = data ? Crossed{frame->exchange, 1} : Crossed{};
    co_await write_frame(frame->bytes, {}, frame->parts, crossed);
    co_return;
  }
  for (std::size_t index = skip; index < frame->chunks && !closed(); ++index) {
    const Crossed crossed{frame->exchange, index + 1};
    const talk::Traffic parts = frame->parts_of(index);
    if (!co_await write_frame(frame->heads[index], frame->piece(index), parts, crossed)) co_return;
  }
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
    const Waiting next = queue_.front();
    writing_ = true;
    co_await write(next.frame, next.skip);
    writing_ = false;
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

talk::Task<void> Connection::heartbeat_loop(Duration idle, std::function<void(Duration)> suspect) {
  const auto self = shared_from_this();
  // The last sign of life before the last ping, and before the last suspicion.
  TimePoint pinged = TimePoint::max(), suspected = TimePoint::max();
  while (!closed()) {
    beat_.expires_after(idle / 3);
    co_await beat_.async_wait(asio::as_tuple(use_awaitable));
    const Duration silence = Clock::now() - alive_;
    if (closed()) co_return;
    if (silence >= idle) {
      close("silent for " +
            std::to_string(std::chrono::duration_cast<std::chrono::seconds>(silence).count()) +
            " s");
      co_return;
    }
    if (alive_ == pinged && std::exchange(suspected, alive_) != alive_) suspect(silence);
    if (std::exchange(held_, false) || silence >= idle / 3) {
      pinged = alive_;
      queue_control(talk::Message("ping"), slots::kPing);
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

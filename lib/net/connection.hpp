// Connection: frames over one stream, every byte counted, heartbeat included. Lives on the network
// thread; kept alive by its own coroutines.
#pragma once

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "net/stream.hpp"
#include "talk/frame_cache.hpp"

namespace fedctl::net {

struct Received {
  wire::Header header;
  talk::Message message{""};                     // none yet while the type is chunk
  std::optional<wire::StoredFrame> stored = {};  // as well, or
  bool alone = false;                            // instead of it
};

// What of a data frame has crossed with the bytes that are counted.
struct Crossed {
  talk::ExchangeId exchange = 0;  // 0: nothing
  std::size_t chunks = 0;         // of the frame, this one and those before it; 1 if it has none
};

// How long a frame may be, by what it is.
struct FrameLimits {
  std::size_t data = 0;                            // and the whole of its chunks
  std::size_t control = limits::kControlBytesMax;  // but
  std::size_t relay = 0;                           // of the kind "relay", which holds a data frame
};

// What waits to be written, by what it is: of each only the newest, as many as are given with it.
using Slot = std::int64_t;
namespace slots {
inline constexpr Slot kEach = -1;  // every one is written
inline constexpr Slot kPing = -2, kPong = -3, kQuestion = -4;
// A frame by this neighbour for the other side; news of it.
inline constexpr Slot relay_by(talk::PeerId neighbour) { return neighbour; }
inline constexpr Slot news_of(talk::PeerId neighbour) { return -5 - neighbour; }
}  // namespace slots

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Count = std::function<void(Way, const talk::Traffic&, Crossed)>;
  Connection(Stream::Socket socket, TlsSettings tls, Count count);

  // Before anything else. Throws as Stream::handshake() does.
  talk::Task<void> handshake();
  void grant_ticket() { stream_.grant_ticket(); }

  // The next frame. Memory grows with the bytes that arrive, never with the claim, and by no more
  // than limits::kFrameBytesInMemory if `transfer` has a scratch file: what is larger is stored.
  // Throws WireError (the peer talks nonsense, or more than allowed), RunDirectoryError (the disk
  // does not take it), or boost::system::system_error (it is gone).
  // Chunks are gathered in `transfer`, if there is one: the last one's type is data.
  talk::Task<Received> read(FrameLimits allowed, wire::Transfer* transfer = nullptr);
  // Before the handshake is over.
  talk::Task<Received> read(std::size_t bytes_max) { return read({bytes_max, bytes_max, 0}); }

  // Without its first `skip` chunks. Precondition: skip < frame->chunks. Of those that wait in the
  // same slot and have not begun, the oldest make room until `keep` are there: a peer that does not
  // read costs no more.
  void queue(talk::SharedFrame frame, std::size_t skip = 0, Slot slot = slots::kEach,
             std::size_t keep = 1);
  void queue_control(const talk::Message& message, Slot slot = slots::kEach, std::size_t keep = 1);

  // Run beside the reader: writes what is queued until the connection closes.
  talk::Task<void> write_loop();
  // Run beside the reader: a ping after idle/3 of silence, `suspect` when none has answered it
  // after idle/3 more, close() after idle.
  talk::Task<void> heartbeat_loop(
      Duration idle, std::function<void(Duration silence)> suspect = [](Duration) {});
  // For a moment this side does not read: the silence is its own, and it says that it is alive.
  talk::Task<void> hold();
  // Frames that wait to be written, and those of them that are data.
  std::size_t queued() const { return queue_.size(); }
  std::size_t data_queued() const;
  // Runs until the queue is written or the connection is closed.
  talk::Task<void> flush();
  // Closes when the deadline passes, unless disarmed by another call. kForever disarms.
  void deadline(TimePoint until, std::string reason);

  // Wakes all of the above. The first reason stands.
  void close(const std::string& reason);
  bool closed() const { return !stream_.socket().is_open(); }
  const std::string& close_reason() const { return reason_; }
  std::string remote() const { return remote_; }
  // Both throw boost::system::system_error if it is gone.
  boost::asio::ip::address peer() const { return stream_.socket().remote_endpoint().address(); }
  boost::asio::ip::address local() const { return stream_.socket().local_endpoint().address(); }
  SSL* tls() const { return stream_.tls(); }  // null in plaintext

 private:
  talk::Task<void> fill(std::byte* out, std::size_t count);
  // Passes on `count` bytes as they come, through one buffer for all connections.
  using Sink = std::function<void(ByteView)>;
  talk::Task<void> pour(std::size_t count, Sink sink);
  using RawHeader = std::array<std::byte, wire::kHeaderBytes>;
  // The body of a frame whose header has been read; returns its payload's bytes.
  talk::Task<std::size_t> read_chunk(Received& received, const RawHeader& raw,
                                     wire::Transfer& transfer, std::size_t bytes_max);
  // The beginning of a control frame's body, by which it is told what it is.
  talk::Task<Bytes> read_kind(const wire::Header& header, const FrameLimits& allowed);
  talk::Task<std::size_t> read_stored(Received& received, const RawHeader& raw, Scratch& scratch);
  // `body`: what has been read of it.
  talk::Task<std::size_t> read_whole(Received& received, const RawHeader& raw, Bytes body);
  talk::Task<void> write(talk::SharedFrame frame, std::size_t skip);
  talk::Task<bool> write_frame(ByteView head, ByteView rest, talk::Traffic parts, Crossed crossed);

  Stream stream_;
  boost::asio::steady_timer queued_, drained_, beat_, deadline_;
  Count count_;
  std::string remote_;
  struct Waiting {
    talk::SharedFrame frame;
    std::size_t skip = 0;
    Slot slot = slots::kEach;
  };
  std::list<Waiting> queue_;  // no memory while empty
  bool writing_ = false;      // the first of them has begun
  bool held_ = false;         // since the last heartbeat
  TimePoint alive_;
  std::size_t partial_ = 0;  // bytes of the frame being read
  std::string reason_;
};

talk::SharedFrame control_frame(const talk::Message& message);

}  // namespace fedctl::net

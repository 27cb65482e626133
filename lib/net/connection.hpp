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

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Count = std::function<void(Way, const talk::Traffic&, Crossed)>;
  Connection(Stream::Socket socket, TlsSettings tls, Count count);

  // Before anything else. Throws as Stream::handshake() does.
  talk::Task<void> handshake();
  void grant_ticket() { stream_.grant_ticket(); }

  // The next frame. Memory grows with the bytes that arrive, never with the claim, and by no more
  // than limits::kFrameBytesInMemory if `transfer` has a scratch file: what is larger is stored.
  // Throws WireError (the peer talks nonsense, or more than bytes_max), RunDirectoryError (the disk
  // does not take it), or boost::system::system_error (it is gone).
  // Chunks are gathered in `transfer`, if there is one: the last one's type is data.
  talk::Task<Received> read(std::size_t bytes_max, wire::Transfer* transfer = nullptr);

  // Without its first `skip` chunks. Precondition: skip < frame->chunks.
  void queue(talk::SharedFrame frame, std::size_t skip = 0);
  void queue_control(const talk::Message& message);

  // Run beside the reader: writes what is queued until the connection closes.
  talk::Task<void> write_loop();
  // Run beside the reader: a ping after idle/3 of silence, `suspect` when none has answered it
  // after idle/3 more, close() after idle.
  talk::Task<void> heartbeat_loop(
      Duration idle, std::function<void(Duration silence)> suspect = [](Duration) {});
  // The silence of now is this side's, which does not read.
  void excuse_silence() { alive_ = std::chrono::steady_clock::now(); }
  // Frames that wait to be written.
  std::size_t queued() const { return queue_.size(); }
  // Runs until the queue is written or the connection is closed.
  talk::Task<void> flush();
  // Closes when the deadline passes, unless disarmed by another call. kForever disarms.
  void deadline(TimePoint until, std::string reason);

  // Wakes all of the above. The first reason stands.
  void close(const std::string& reason);
  bool closed() const { return !stream_.socket().is_open(); }
  const std::string& close_reason() const { return reason_; }
  std::string remote() const { return remote_; }
  // Throws boost::system::system_error if it is gone.
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
  talk::Task<std::size_t> read_stored(Received& received, const RawHeader& raw, Scratch& scratch);
  talk::Task<std::size_t> read_whole(Received& received, const RawHeader& raw);
  talk::Task<void> write(talk::SharedFrame frame, std::size_t skip);
  talk::Task<bool> write_frame(ByteView head, ByteView rest, talk::Traffic parts, Crossed crossed);

  Stream stream_;
  boost::asio::steady_timer queued_, drained_, beat_, deadline_;
  Count count_;
  std::string remote_;
  struct Waiting {
    talk::SharedFrame frame;
    std::size_t skip = 0;
  };
  std::list<Waiting> queue_;  // no memory while empty
  TimePoint alive_;
  std::size_t partial_ = 0;  // bytes of the frame being read
  std::string reason_;
};

talk::SharedFrame control_frame(const talk::Message& message);

}  // namespace fedctl::net

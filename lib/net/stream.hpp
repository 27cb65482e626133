// Stream: bytes over one TCP socket, in plaintext or under TLS, and what TLS adds to them, to the
// byte. OpenSSL never sees the socket: its records pass through memory, so that what has been read
// ahead is known apart from what has been read (docs/decisions/003-tls.md). Lives on the network
// thread; one coroutine reads, one writes.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

#include "base/bytes.hpp"
#include "net/tls.hpp"
#include "talk/task.hpp"

namespace fedctl::net {

// Seen from this socket.
enum class Way { in, out };

// What one connection needs for TLS; without a context it is in plaintext.
struct TlsSettings {
  std::shared_ptr<const TlsContext> context = nullptr;
  std::string host = {};        // client: what the server's certificate must name
  TlsTicket* ticket = nullptr;  // client: kept between connections, outlives the stream
};

class Stream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  Stream(Socket socket, TlsSettings tls);
  ~Stream();

  // Before anything else under TLS; nothing in plaintext. A client that speaks plaintext to a
  // server under TLS is heard in plaintext (tls() is null then), so that it can be told why it is
  // refused. Throws TlsError, or boost::system::system_error if the peer is gone.
  talk::Task<void> handshake();
  // Server: the peer gets a ticket with the next write. Whoever is not let in costs no session.
  void grant_ticket();
  // At least one byte, at most `count`. Throws as handshake() does.
  talk::Task<std::size_t> read_some(std::byte* out, std::size_t count);
  // The same of what is there by now, perhaps nothing: `out` need not outlive a wait.
  std::size_t read_now(std::span<std::byte> out);
  // Until something has arrived that read_now() has not seen.
  talk::Task<void> wait();
  // All of it, or as much as went before the error.
  struct Written {
    boost::system::error_code error;
    std::size_t sent = 0;
  };
  talk::Task<Written> write(ByteView head, ByteView rest = {});

  // Bytes that crossed the socket beyond those read or written here, since the last call; 0 in
  // plaintext. What has arrived and was not read yet is not among them.
  std::uint64_t overhead(Way way);
  // The same when nothing will be read or written any more, with what was left.
  std::uint64_t last_overhead(Way way);

  // Null in plaintext, and before the handshake.
  SSL* tls() const { return tls_.get(); }

  Socket& socket() { return socket_; }
  const Socket& socket() const { return socket_; }

 private:
  struct Count {
    std::uint64_t raw = 0, useful = 0, told = 0;
    std::uint64_t untold(std::uint64_t waiting);
  };
  bool feed_now();
  talk::Task<void> feed();
  talk::Task<Written> write_plain(ByteView head, ByteView rest);
  talk::Task<Written> write_tls(ByteView head, ByteView rest);
  talk::Task<boost::system::error_code> flush();
  [[noreturn]] void fail();

  Socket socket_;
  TlsSettings settings_;
  struct Free {
    void operator()(SSL* connection) const;
  };
  std::unique_ptr<SSL, Free> tls_;
  Count in_, out_;
};

}  // namespace fedctl::net
